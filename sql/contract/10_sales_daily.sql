create or replace view analytics.sales_daily as
select d.store_id,
       d.sale_date,
       d.sales_count,
       d.returns_count,
       coalesce(d.items, 0) as items,
       coalesce(d.items_sold, 0) as items_sold,
       coalesce(d.gross_bs, 0) as gross_bs,
       coalesce(d.gross_usd, 0) as gross_usd,
       coalesce(d.discounts_bs, 0) as discounts_bs,
       coalesce(d.discounts_usd, 0) as discounts_usd,
       coalesce(d.returns_bs, 0) as returns_bs,
       coalesce(d.returns_usd, 0) as returns_usd,
       coalesce(d.gross_bs, 0) - coalesce(d.discounts_bs, 0) - coalesce(d.returns_bs, 0) as net_bs,
       coalesce(d.gross_usd, 0) - coalesce(d.discounts_usd, 0) - coalesce(d.returns_usd, 0) as net_usd,
       coalesce(d.tax_bs, 0) as tax_bs,
       coalesce(d.tax_usd, 0) as tax_usd,
       coalesce(d.total_bs, 0) as total_bs,
       coalesce(d.total_usd, 0) as total_usd,
       (coalesce(d.gross_bs, 0) - coalesce(d.discounts_bs, 0)) / nullif(d.sales_count, 0) as avg_ticket_bs,
       (coalesce(d.gross_usd, 0) - coalesce(d.discounts_usd, 0)) / nullif(d.sales_count, 0) as avg_ticket_usd,
       (select count(*)
          from analytics.customer_sales_daily c
         where c.store_id = d.store_id
           and c.sale_date = d.sale_date) as unique_customers
  from analytics.sales_daily_totals d;

comment on view analytics.sales_daily is 'A shop''s business day: completed sales and returns. Fresh at commit.';
comment on column analytics.sales_daily.store_id is 'stores.id';
comment on column analytics.sales_daily.sale_date is 'Business date by the shop''s clock and start of day.';
comment on column analytics.sales_daily.sales_count is 'Completed sales; returns and voids are not sales.';
comment on column analytics.sales_daily.returns_count is 'Completed returns.';
comment on column analytics.sales_daily.items is 'Units sold less units returned.';
comment on column analytics.sales_daily.items_sold is 'Units sold, returns not deducted.';
comment on column analytics.sales_daily.gross_bs is 'Sales before discounts and returns, without tax, in bolívares at each sale''s own rate.';
comment on column analytics.sales_daily.gross_usd is 'Sales before discounts and returns, without tax, in US dollars.';
comment on column analytics.sales_daily.discounts_bs is 'Discounts given on sales; positive.';
comment on column analytics.sales_daily.discounts_usd is 'Discounts given on sales; positive.';
comment on column analytics.sales_daily.returns_bs is 'Value of what came back, without tax; positive.';
comment on column analytics.sales_daily.returns_usd is 'Value of what came back, without tax; positive.';
comment on column analytics.sales_daily.net_bs is 'gross_bs - discounts_bs - returns_bs';
comment on column analytics.sales_daily.net_usd is 'gross_usd - discounts_usd - returns_usd';
comment on column analytics.sales_daily.tax_bs is 'Tax collected, less tax given back.';
comment on column analytics.sales_daily.tax_usd is 'Tax collected, less tax given back.';
comment on column analytics.sales_daily.total_bs is 'Collected: net plus tax.';
comment on column analytics.sales_daily.total_usd is 'Collected: net plus tax.';
comment on column analytics.sales_daily.avg_ticket_bs is '(gross_bs - discounts_bs) / sales_count; NULL without sales.';
comment on column analytics.sales_daily.avg_ticket_usd is '(gross_usd - discounts_usd) / sales_count; NULL without sales.';
comment on column analytics.sales_daily.unique_customers is 'Customers with a completed sale that day; sales without a customer count for none.';
