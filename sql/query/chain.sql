-- $1: shops, or NULL for all; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select c.store_id, c.store_name, c.sales_count, c.returns_count, c.items_sold::text, c.gross_bs::text, c.gross_usd::text,
               c.net_bs::text, c.net_usd::text, c.total_bs::text, c.total_usd::text,
               round(c.avg_ticket_bs, 4)::text as avg_ticket_bs, round(c.avg_ticket_usd, 4)::text as avg_ticket_usd,
               c.previous_sales_count, c.previous_net_bs::text, c.previous_net_usd::text,
               round(100 * (c.net_usd - c.previous_net_usd) / nullif(abs(c.previous_net_usd), 0), 1)::text as change_percent
          from analytics.chain($1, $2, $3) c
       ) r
