-- plpgsql, because it is looked at only when it is called: a shop's own products may have no category.
create or replace function analytics.category_mix(store uuid, first date, last date)
returns table (
  category text, products bigint, units numeric, revenue_bs numeric, revenue_usd numeric,
  margin_bs numeric, margin_usd numeric, share_percent numeric
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  select p.category, count(*)::bigint, sum(t.units), sum(t.revenue_bs), sum(t.revenue_usd),
         sum(t.revenue_bs - t.cost_bs), sum(t.revenue_usd - t.cost_usd),
         100 * sum(t.revenue_usd) / nullif(sum(sum(t.revenue_usd)) over (), 0)
    from (select d.product_id, sum(d.units) as units, sum(d.revenue_bs) as revenue_bs, sum(d.revenue_usd) as revenue_usd,
                 sum(d.cost_bs) as cost_bs, sum(d.cost_usd) as cost_usd
            from analytics.product_sales_daily_totals d
           where d.store_id = category_mix.store
             and pulso.caller_sees(category_mix.store)
             and d.sale_date between category_mix.first and category_mix.last
           group by d.product_id) t
    left join public.products p on p.id = t.product_id
   group by p.category
   order by 5 desc, 1;
end
$$;
revoke execute on function analytics.category_mix(uuid, date, date) from public;
comment on function analytics.category_mix(uuid, date, date) is
  'What each category of products brought in, as it is named today; completed sales, returns not deducted. NULL: products without a category. share_percent is of revenue_usd.';
