select pulso.drop_rollup('analytics.product_sales_tickets');
select pulso.drop_rollup('analytics.product_sales_daily_totals');
