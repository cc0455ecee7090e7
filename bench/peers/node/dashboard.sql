-- The contract's dashboard, with how far each earlier day is. $1: shop; $2: business date, or NULL for its today.
-- Amounts are exact; quotients are rounded (tickets to 4 decimals, items and percentages as named).
select d.store_id,
       d.store_name,
       d.business_date,
       d.business_date = analytics.business_date(d.store_id) as in_progress,
       d.sales_count,
       d.returns_count,
       d.items_sold::text,
       d.gross_bs::text,
       d.gross_usd::text,
       d.discounts_bs::text,
       d.discounts_usd::text,
       d.returns_bs::text,
       d.returns_usd::text,
       d.net_bs::text,
       d.net_usd::text,
       d.tax_bs::text,
       d.tax_usd::text,
       d.total_bs::text,
       d.total_usd::text,
       round(d.avg_ticket_bs, 4)::text as avg_ticket_bs,
       round(d.avg_ticket_usd, 4)::text as avg_ticket_usd,
       round(d.items_per_ticket, 2)::text as items_per_ticket,
       (select count(*)
          from analytics.customer_sales_daily k
         where k.store_id = d.store_id
           and k.sale_date = d.business_date) as unique_customers,
       d.payment_mix,
       d.hourly,
       c.compared
  from analytics.dashboard($1, $2) d
 cross join lateral (
         select jsonb_object_agg(t.name, t.day || jsonb_build_object(
                  'avg_ticket_bs', round(t.avg_ticket_bs, 4)::text,
                  'avg_ticket_usd', round(t.avg_ticket_usd, 4)::text,
                  'change_percent', jsonb_build_object(
                    'sales_count', round(100 * (d.sales_count - t.sales_count) / nullif(abs(t.sales_count), 0), 1)::text,
                    'net_bs', round(100 * (d.net_bs - t.net_bs) / nullif(abs(t.net_bs), 0), 1)::text,
                    'net_usd', round(100 * (d.net_usd - t.net_usd) / nullif(abs(t.net_usd), 0), 1)::text,
                    'avg_ticket_bs', round(100 * (d.avg_ticket_bs - t.avg_ticket_bs) / nullif(abs(t.avg_ticket_bs), 0), 1)::text,
                    'avg_ticket_usd', round(100 * (d.avg_ticket_usd - t.avg_ticket_usd) / nullif(abs(t.avg_ticket_usd), 0), 1)::text
                  ))) as compared
           from (
                 select n.name,
                        n.day,
                        (n.day ->> 'sales_count')::numeric as sales_count,
                        (n.day ->> 'net_bs')::numeric as net_bs,
                        (n.day ->> 'net_usd')::numeric as net_usd,
                        (n.day ->> 'avg_ticket_bs')::numeric as avg_ticket_bs,
                        (n.day ->> 'avg_ticket_usd')::numeric as avg_ticket_usd
                   from (values ('yesterday', d.yesterday), ('last_week', d.last_week)) as n (name, day)
                ) t
       ) c
