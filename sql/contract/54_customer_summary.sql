create or replace function analytics.customer_summary(store uuid, first date, last date)
returns table (
  unique_customers bigint, new_customers bigint, returning_customers bigint, repeat_customers bigint,
  sales_count bigint, identified_sales bigint,
  new_total_bs numeric, new_total_usd numeric, returning_total_bs numeric, returning_total_usd numeric
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  with bought as (
    select c.customer_id,
           min(c.sale_date) as since,
           sum(c.sales_count) filter (where c.sale_date >= customer_summary.first) as sales_count,
           sum(c.total_bs) filter (where c.sale_date >= customer_summary.first) as total_bs,
           sum(c.total_usd) filter (where c.sale_date >= customer_summary.first) as total_usd
      from analytics.customer_sales_daily c
     where c.store_id = customer_summary.store
       and c.sale_date <= customer_summary.last
     group by c.customer_id
  )
  select count(*),
         count(*) filter (where b.since >= customer_summary.first),
         count(*) filter (where b.since < customer_summary.first),
         count(*) filter (where b.sales_count > 1),
         (select coalesce(sum(d.sales_count), 0)::bigint
            from analytics.sales_daily_totals d
           where d.store_id = customer_summary.store
             and d.sale_date between customer_summary.first and customer_summary.last),
         coalesce(sum(b.sales_count), 0)::bigint,
         coalesce(sum(b.total_bs) filter (where b.since >= customer_summary.first), 0),
         coalesce(sum(b.total_usd) filter (where b.since >= customer_summary.first), 0),
         coalesce(sum(b.total_bs) filter (where b.since < customer_summary.first), 0),
         coalesce(sum(b.total_usd) filter (where b.since < customer_summary.first), 0)
    from bought b
   where b.sales_count > 0;
end
$$;
comment on function analytics.customer_summary(uuid, date, date) is
  'Customers with a completed sale in the range: new (none at this shop before it), returning, and repeat (several in the range). Its cost grows with the shop''s days and customers before the range.';
