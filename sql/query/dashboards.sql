-- The business day $2 of each of the shops $1 (NULL: its today), a row for each that is there: totals, payment mix and hourly curve as
-- lists, and how far the day before and the same weekday a week before are. The same figures as analytics.dashboard, for many
-- shops at once: to begin costs as much as two or three of them.
with shop as materialized (
       select s.store_id,
              s.name,
              s.day_start,
              t.today,
              coalesce($2::date, t.today) as day
         from analytics.stores s
        -- As analytics.business_date has it: calling that costs as much as a payment mix.
        cross join lateral (select ((now() at time zone s.time_zone) - s.day_start)::date as today) t
        where s.store_id = any ($1::uuid[])
     ),
     daily as materialized (
       select t.store_id,
              t.sale_date,
              t.sales_count,
              t.returns_count,
              t.items_sold,
              t.gross_bs,
              t.gross_usd,
              t.discounts_bs,
              t.discounts_usd,
              t.returns_bs,
              t.returns_usd,
              t.net_bs,
              t.net_usd,
              t.tax_bs,
              t.tax_usd,
              t.total_bs,
              t.total_usd,
              t.avg_ticket_bs,
              t.avg_ticket_usd
         from analytics.sales_daily t
        where t.store_id = any ($1)
          and t.sale_date >= (select min(s.day) - 7 from shop s)
          and t.sale_date <= (select max(s.day) from shop s)
          and t.sale_date = any ((select array_agg(distinct s.day - b.back) from shop s cross join (values (0), (1), (7)) as b (back))::date[])
     ),
     customers as materialized (
       select k.store_id,
              k.sale_date,
              count(*) as unique_customers
         from analytics.customer_sales_daily k
        where k.store_id = any ($1)
          and k.sale_date >= (select min(s.day) from shop s)
          and k.sale_date <= (select max(s.day) from shop s)
        group by k.store_id, k.sale_date
     ),
     mix as materialized (
       select p.store_id,
              p.sale_date,
              array_agg(p.method order by p.amount_usd desc, p.method) as methods,
              array_agg(p.sales_count order by p.amount_usd desc, p.method) as sales,
              array_agg(p.amount_bs::text order by p.amount_usd desc, p.method) as bs,
              array_agg(p.amount_usd::text order by p.amount_usd desc, p.method) as usd
         from analytics.payment_mix_daily p
        where p.store_id = any ($1)
          and p.sale_date >= (select min(s.day) from shop s)
          and p.sale_date <= (select max(s.day) from shop s)
        group by p.store_id, p.sale_date
     ),
     hours as materialized (
       select h.store_id,
              h.hour,
              h.sales_count,
              h.net_bs::text as net_bs,
              h.net_usd::text as net_usd
         from analytics.sales_hourly h
        where h.store_id = any ($1)
          and h.hour >= (select min(s.day + s.day_start) from shop s)
          and h.hour < (select max(s.day + 1 + s.day_start) from shop s)
     ),
     curve as materialized (
       select s.store_id,
              array_agg(h.hour order by h.hour) as hours,
              array_agg(h.sales_count order by h.hour) as sales,
              array_agg(h.net_bs order by h.hour) as bs,
              array_agg(h.net_usd order by h.hour) as usd
         from shop s
         join hours h on h.store_id = s.store_id and h.hour >= s.day + s.day_start and h.hour < s.day + 1 + s.day_start
        group by s.store_id
     ),
     compared as materialized (
       select s.store_id,
              b.back,
              s.day - b.back as day,
              coalesce(t.sales_count, 0) as sales_count,
              array[coalesce(t.net_bs, 0)::text,
                    coalesce(t.net_usd, 0)::text,
                    coalesce(t.total_bs, 0)::text,
                    coalesce(t.total_usd, 0)::text,
                    round(t.avg_ticket_bs, 4)::text,
                    round(t.avg_ticket_usd, 4)::text] as amounts,
              array[round(100 * (coalesce(d.sales_count, 0) - t.sales_count)::numeric / nullif(abs(t.sales_count), 0), 1)::text,
                    round(100 * (coalesce(d.net_bs, 0) - t.net_bs) / nullif(abs(t.net_bs), 0), 1)::text,
                    round(100 * (coalesce(d.net_usd, 0) - t.net_usd) / nullif(abs(t.net_usd), 0), 1)::text,
                    round(100 * (d.avg_ticket_bs - t.avg_ticket_bs) / nullif(abs(t.avg_ticket_bs), 0), 1)::text,
                    round(100 * (d.avg_ticket_usd - t.avg_ticket_usd) / nullif(abs(t.avg_ticket_usd), 0), 1)::text] as changes
         from shop s
        cross join (values (1), (7)) as b (back)
         left join daily d on d.store_id = s.store_id and d.sale_date = s.day
         left join daily t on t.store_id = s.store_id and t.sale_date = s.day - b.back
     )
select s.store_id,
       s.name as store_name,
       s.day as business_date,
       s.day = s.today as in_progress,
       coalesce(d.sales_count, 0) as sales_count,
       coalesce(d.returns_count, 0) as returns_count,
       coalesce(d.items_sold, 0)::text as items_sold,
       coalesce(d.gross_bs, 0)::text as gross_bs,
       coalesce(d.gross_usd, 0)::text as gross_usd,
       coalesce(d.discounts_bs, 0)::text as discounts_bs,
       coalesce(d.discounts_usd, 0)::text as discounts_usd,
       coalesce(d.returns_bs, 0)::text as returns_bs,
       coalesce(d.returns_usd, 0)::text as returns_usd,
       coalesce(d.net_bs, 0)::text as net_bs,
       coalesce(d.net_usd, 0)::text as net_usd,
       coalesce(d.tax_bs, 0)::text as tax_bs,
       coalesce(d.tax_usd, 0)::text as tax_usd,
       coalesce(d.total_bs, 0)::text as total_bs,
       coalesce(d.total_usd, 0)::text as total_usd,
       round(d.avg_ticket_bs, 4)::text as avg_ticket_bs,
       round(d.avg_ticket_usd, 4)::text as avg_ticket_usd,
       round(d.items_sold / nullif(d.sales_count, 0), 2)::text as items_per_ticket,
       coalesce(k.unique_customers, 0) as unique_customers,
       m.methods as mix_methods,
       m.sales as mix_sales,
       m.bs as mix_bs,
       m.usd as mix_usd,
       c.hours as curve_hours,
       c.sales as curve_sales,
       c.bs as curve_bs,
       c.usd as curve_usd,
       y.day as yesterday,
       y.sales_count as yesterday_sales,
       y.amounts as yesterday_amounts,
       y.changes as yesterday_changes,
       w.day as last_week,
       w.sales_count as last_week_sales,
       w.amounts as last_week_amounts,
       w.changes as last_week_changes
  from shop s
  left join daily d on d.store_id = s.store_id and d.sale_date = s.day
  left join customers k on k.store_id = s.store_id and k.sale_date = s.day
  left join mix m on m.store_id = s.store_id and m.sale_date = s.day
  left join curve c on c.store_id = s.store_id
  join compared y on y.store_id = s.store_id and y.back = 1
  join compared w on w.store_id = s.store_id and w.back = 7
