-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select c.unique_customers, c.new_customers, c.returning_customers, c.repeat_customers, c.sales_count, c.identified_sales,
               c.new_total_bs::text, c.new_total_usd::text, c.returning_total_bs::text, c.returning_total_usd::text
          from analytics.customer_summary($1, $2, $3) c
       ) r
