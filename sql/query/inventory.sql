-- $1: shop.
select to_jsonb(r)
  from (
        select i.total_products, i.low_stock_count, i.out_of_stock_count, i.total_units::text,
               i.total_stock_value_bs::text, i.total_stock_value_usd::text
          from analytics.inventory($1) i
       ) r
