-- It was not made where the sales have no cashier.
do $$
begin
  if to_regclass('analytics.cashier_sales_daily') is not null then
    perform pulso.drop_rollup('analytics.cashier_sales_daily');
  end if;
end
$$;
