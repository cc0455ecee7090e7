-- Drops the tables, with their rows: refused while there are any, unless that is asked for (--drop-data).
do $$
declare
  name text;
  filled boolean;
begin
  if coalesce(current_setting('pulso_migrate.drop_data', true), '') <> 'on' then
    foreach name in array array['events', 'inventory_movements', 'real_time_metrics', 'sales_heatmap'] loop
      if to_regclass('public.' || name) is not null then
        execute format('select exists (select from public.%I)', name) into filled;
        if filled then
          raise exception 'table public.% holds rows', name
            using errcode = 'dependent_objects_still_exist', hint = 'To drop it with its rows: pulso migrate undo pos --drop-data';
        end if;
      end if;
    end loop;
  end if;
end
$$;

drop table if exists public.sales_heatmap, public.real_time_metrics, public.inventory_movements, public.events;
