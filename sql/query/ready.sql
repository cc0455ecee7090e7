-- Whether the contract this service reads is there.
select to_regprocedure('analytics.dashboard(uuid, date)') is not null
   and to_regprocedure('analytics.business_date(uuid, timestamptz)') is not null
   and to_regclass('analytics.sales_daily') is not null
   and to_regclass('analytics.sales_hourly') is not null
   and to_regclass('analytics.product_sales_daily') is not null
   and to_regclass('public.stores') is not null
