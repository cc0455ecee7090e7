-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select c.cashier_id, c.name, c.sales_count, c.returns_count, c.voids_count, c.items_sold::text, c.gross_bs::text,
               c.gross_usd::text, c.discounts_bs::text, c.discounts_usd::text, c.net_bs::text, c.net_usd::text,
               round(c.avg_ticket_bs, 4)::text as avg_ticket_bs, round(c.avg_ticket_usd, 4)::text as avg_ticket_usd,
               round(c.items_per_ticket, 2)::text as items_per_ticket
          from analytics.cashier_performance($1, $2, $3) c
       ) r
