select pulso.drop_rollup('analytics.customer_sales_daily');
select pulso.drop_rollup('analytics.payment_mix_daily');
select pulso.drop_rollup('analytics.sales_daily_totals');
select pulso.drop_rollup('analytics.sales_hourly');
