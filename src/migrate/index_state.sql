-- How it stands with an index. $1: its name in schema public; $2: its table; $3: its columns.
-- Kind of the table, columns that are missing, whether the index is valid, another index that begins with the columns,
-- whether what has the name is an index of that table over those columns.
select (select case c.relkind when 'p' then 'partitioned' else 'plain' end from pg_catalog.pg_class c where c.oid = to_regclass($2::text)),
       array(
         select k.name
           from unnest($3::text[]) as k (name)
          where not exists (
            select
              from pg_catalog.pg_attribute a
             where a.attrelid = to_regclass($2::text)
               and a.attname = k.name
               and not a.attisdropped
          )
       ),
       (select i.indisvalid and i.indisready
          from pg_catalog.pg_index i
         where i.indexrelid = to_regclass(format('public.%I', $1::text))),
       (select i.indexrelid::regclass::text
          from pg_catalog.pg_index i
          join pg_catalog.pg_class c on c.oid = i.indexrelid
          join pg_catalog.pg_am m on m.oid = c.relam
         where i.indrelid = to_regclass($2::text)
           and i.indexrelid is distinct from to_regclass(format('public.%I', $1::text))
           and m.amname = 'btree'
           and i.indisvalid
           and i.indpred is null
           and $3::text[] = array(
             select a.attname::text
               from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
               join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where k.place <= least(i.indnkeyatts, cardinality($3::text[]))
              order by k.place
           )
         limit 1),
       (select i.indrelid = to_regclass($2::text)
           and $3::text[] = array(
             select a.attname::text
               from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
               join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where k.place <= i.indnkeyatts
              order by k.place
           )
          from pg_catalog.pg_index i
         where i.indexrelid = to_regclass(format('public.%I', $1::text)))
