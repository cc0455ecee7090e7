-- Drops the tables, with their rows: refused while there are any, unless that is asked for (--drop-data).
do $$
declare
  name text;
  filled boolean;
begin
  if coalesce(current_setting('pulso_migrate.drop_data', true), '') <> 'on' then
    foreach name in array array['stores', 'exchange_rates', 'products', 'customers', 'cashiers', 'sales', 'sale_items', 'sale_payments'] loop
      execute format('select exists (select from public.%I)', name) into filled;
      if filled then
        raise exception 'table public.% holds rows', name
          using errcode = 'dependent_objects_still_exist', hint = 'To drop it with its rows: pulso migrate undo pos --drop-data';
      end if;
    end loop;
  end if;
end
$$;

drop table public.sale_payments, public.sale_items, public.sales, public.cashiers, public.customers, public.products,
  public.exchange_rates, public.stores;
