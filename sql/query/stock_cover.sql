-- $1: shop; $2: days that the rate is taken from; $3: at most so many products.
select to_jsonb(r)
  from (
        select c.product_id, c.name, c.sku, c.category, c.stock::text, c.low_stock_threshold::text, c.units_sold::text,
               round(c.units_per_day, 3)::text as units_per_day, round(c.days_of_cover, 1)::text as days_of_cover,
               round(c.sell_through_percent, 1)::text as sell_through_percent, c.state
          from analytics.stock_days($1, $2) c
         limit $3
       ) r
