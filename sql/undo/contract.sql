-- The views and functions of sql/contract, which rest on the rollups.
drop function if exists
  analytics.sales_breakdown(uuid, date, date, text),
  analytics.category_mix(uuid, date, date),
  analytics.payment_mix(uuid, date, date),
  analytics.tender_mix(uuid, date, date),
  analytics.sales_heatmap(uuid, date, date),
  analytics.customer_summary(uuid, date, date),
  analytics.cashier_performance(uuid, date, date),
  analytics.inventory(uuid),
  analytics.stock_days(uuid, int),
  analytics.chain(uuid[], date, date),
  analytics.product_abc(uuid, date, date),
  analytics.customer_scores(uuid, date, date),
  analytics.product_xyz(uuid, date, date),
  analytics.product_affinity(uuid, date, date, int);
drop function if exists analytics.dashboard(uuid, date);
drop function if exists analytics.business_date(uuid, timestamptz);
drop view if exists analytics.product_sales_daily;
drop view if exists analytics.sales_monthly;
drop view if exists analytics.sales_daily;
drop view if exists analytics.stores;
drop table pulso.contract;
