create or replace function analytics.payment_mix(store uuid, first date, last date)
returns table (method text, sales_count bigint, amount_bs numeric, amount_usd numeric, share_percent numeric)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select m.method, sum(m.sales_count)::bigint, coalesce(sum(m.amount_bs), 0), coalesce(sum(m.amount_usd), 0),
         100 * sum(m.amount_usd) / nullif(sum(sum(m.amount_usd)) over (), 0)
    from analytics.payment_mix_daily m
   where m.store_id = payment_mix.store
     and m.sale_date between payment_mix.first and payment_mix.last
   group by m.method
   order by 4 desc, 1
$$;
comment on function analytics.payment_mix(uuid, date, date) is
  'What each way of paying brought in, returns deducted, tax included; a sale paid in several ways is one line `mixed`. share_percent is of amount_usd.';

create or replace function analytics.tender_mix(store uuid, first date, last date)
returns table (method text, currency text, payments bigint, amount numeric, amount_bs numeric, amount_usd numeric)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select p.method, p.currency, count(*)::bigint, sum(p.amount), sum(p.amount_bs), sum(p.amount_usd)
    from public.sales s
    join public.sale_payments p on p.sale_id = s.id
   where s.store_id = tender_mix.store
     and pulso.caller_sees(tender_mix.store)
     and s.business_date between tender_mix.first and tender_mix.last
     and s.status = 'completed'
     and s.kind in ('sale', 'return')
   group by p.method, p.currency
   order by 6 desc, 1, 2;
end
$$;
revoke execute on function analytics.tender_mix(uuid, date, date) from public;
comment on function analytics.tender_mix(uuid, date, date) is
  'Money by tender and currency, each tender of a mixed sale apart, change and refunds deducted. Counted from the payments at each call: its cost grows with the sales of the range.';
