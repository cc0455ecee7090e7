-- The views and functions of sql/contract, which rest on the rollups.
drop function if exists analytics.dashboard(uuid, date);
drop function if exists analytics.business_date(uuid, timestamptz);
drop view if exists analytics.product_sales_daily;
drop view if exists analytics.sales_daily;
drop table pulso.contract;
