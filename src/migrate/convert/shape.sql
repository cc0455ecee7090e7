-- What a table is, as one JSON document: all that another table in its place must have. $1: its name; $2: the column of time.
with this as (
  select c.oid, c.relname, n.nspname, format('%I.%I', n.nspname, c.relname) as name, c.relkind, c.relpersistence, c.relrowsecurity,
         c.relforcerowsecurity, c.relhassubclass, c.relispartition, c.relowner, c.relacl, c.reloptions, c.relreplident, c.reltuples, c.reltablespace,
         c.reloftype, c.reltype, c.reltoastrelid, a.amname
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_am a on a.oid = c.relam
   where c.oid = to_regclass($1)
), hyper as (
  select exists (
    select from timescaledb_information.hypertables h, this where (h.hypertable_schema, h.hypertable_name) = (this.nspname, this.relname)
  ) as yes
), columns as (
  select a.attnum, a.attname::text as name, a.attnotnull, a.attgenerated <> '' as generated, a.attidentity <> '' as identity, a.attidentity = 'a' as numbered,
         a.attidentity <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid) ~ '(nextval|uuid)', false) as by_itself,
         a.attacl, a.attstattarget, a.attoptions, a.atttypid,
         concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
           a.attcompression, pg_get_expr(d.adbin, d.adrelid)) as made_of
    from pg_catalog.pg_attribute a
    join this on a.attrelid = this.oid
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
   where a.attnum > 0 and not a.attisdropped
), indexes as (
  select i.indexrelid, c.relname::text as name, pg_get_indexdef(i.indexrelid) as definition, i.indisprimary as is_primary,
         i.indisunique as is_unique,
         pg_get_constraintdef(k.oid) || coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '') as constraint_definition,
         coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '') as options, i.indisclustered as clustered,
         coalesce(obj_description(i.indexrelid, 'pg_class'), obj_description(k.oid, 'pg_constraint')) as comment,
         i.indpred is null and i.indexprs is null and not i.indnullsnotdistinct and coalesce(not k.condeferrable, true) as plain,
         coalesce(k.contype = 'x', false) as excludes,
         array(
           select o.name
             from unnest(i.indkey::smallint[]) with ordinality as p (attnum, place)
             join columns o on o.attnum = p.attnum
            where p.place <= i.indnkeyatts
            order by p.place
         ) as columns,
         array(
           select o.name
             from unnest(i.indkey::smallint[]) with ordinality as p (attnum, place)
             join columns o on o.attnum = p.attnum
            where p.place > i.indnkeyatts
            order by p.place
         ) as included
    from pg_catalog.pg_index i
    join this on i.indrelid = this.oid
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    left join pg_catalog.pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
   where i.indisvalid
), referring as (
  select k.conname::text as name, format('%I.%I', n.nspname, c.relname) as from_table, pg_get_constraintdef(k.oid) as definition,
         obj_description(k.oid, 'pg_constraint') as comment, k.conindid, k.convalidated
    from pg_catalog.pg_constraint k
    join this on k.confrelid = this.oid
    join pg_catalog.pg_class c on c.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where k.contype = 'f' and k.conparentid = 0
     -- A chunk has the foreign keys of its hypertable.
     and not exists (select from timescaledb_information.chunks h where (h.chunk_schema, h.chunk_name) = (n.nspname, c.relname))
), triggers as (
  select t.oid, t.tgname::text as name, pg_get_triggerdef(t.oid) as definition, t.tgenabled::text as enabled,
         obj_description(t.oid, 'pg_trigger') as comment, t.tgconstraint, t.tgoldtable is not null or t.tgnewtable is not null as transitional
    from pg_catalog.pg_trigger t
    join this on t.tgrelid = this.oid
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
   where not t.tgisinternal
     and n.nspname not in ('pulso', 'pulso_shadow', '_timescaledb_functions', '_timescaledb_internal')
     and t.tgname <> 'ts_insert_blocker'
), dependents as (
  select distinct v.oid, v.relkind, format('%I.%I', n.nspname, v.relname) as name, pg_get_viewdef(v.oid) as definition, v.reloptions
    from pg_catalog.pg_depend d
    join this on d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = this.oid
    join pg_catalog.pg_rewrite r on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
    join pg_catalog.pg_class v on v.oid = r.ev_class and v.oid <> this.oid
    join pg_catalog.pg_namespace n on n.oid = v.relnamespace and n.nspname <> 'pulso'
), sequences as (
  select o.name as column_name, format('%I.%I', n.nspname, s.relname) as sequence, s.relname::text as name, s.relacl, s.oid, o.identity
    from pg_catalog.pg_depend d
    join this on d.refobjid = this.oid and d.refclassid = 'pg_catalog.pg_class'::regclass
    join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S' and d.classid = 'pg_catalog.pg_class'::regclass
    join pg_catalog.pg_namespace n on n.oid = s.relnamespace
    join columns o on o.attnum = d.refobjsubid
   where d.deptype in ('a', 'i')
), statistics as (
  -- What it is named, and what it is made of.
  select s.oid, s.stxname::text as name, format('%I.%I', n.nspname, s.stxname) as full_name, quote_ident(n.nspname) as schema, s.stxstattarget as target,
         obj_description(s.oid, 'pg_statistic_ext') as comment, regexp_match(pg_get_statisticsobjdef(s.oid), '^CREATE STATISTICS \S+( .* FROM) ') as definition,
         pg_get_statisticsobjdef(s.oid) as whole
    from pg_catalog.pg_statistic_ext s
    join this on s.stxrelid = this.oid
    join pg_catalog.pg_namespace n on n.oid = s.stxnamespace
), refusals (reason) as (
  select format('%s is partitioned, foreign or a view', name) from this where relkind <> 'r'
  union all
  select format('%s is of a type, or of access method %s: a plain heap table is needed', name, amname) from this where relkind = 'r' and (reloftype <> 0 or amname <> 'heap')
  union all
  select format('%s or an index of it is in a tablespace of its own: alter table %1$s set tablespace pg_default, and its indexes', name) from this
   where reltablespace <> 0 or exists (select from indexes i join pg_catalog.pg_class x on x.oid = i.indexrelid where x.reltablespace <> 0)
  union all
  select format('%s is not a permanent table', name) from this where relpersistence <> 'p'
  union all
  select format('%s is under row security', name) from this where relrowsecurity or relforcerowsecurity
  union all
  select format('policy %s is on %s, or reads it: drop it, and make it again afterwards', p.polname, this.name)
    from pg_catalog.pg_policy p, this
   where p.polrelid = this.oid
      or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
                    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = this.oid)
  union all
  select format('%s or a column of it has a security label, which would be lost: security label on … is null', name) from this
   where exists (select from pg_catalog.pg_seclabel l where l.classoid = 'pg_catalog.pg_class'::regclass and l.objoid = this.oid)
  union all
  select format('%s belongs to extension %s', name, e.extname)
    from this
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = this.oid and d.deptype = 'e'
    join pg_catalog.pg_extension e on e.oid = d.refobjid
  union all
  select format('%s has replica identity by an index, which chunks would not have: alter table %1$s replica identity default', name)
    from this where relreplident = 'i'
  union all
  select format('publication %s publishes %s: rows of a hypertable are published as those of its chunks, and new chunks not at all: take it out', p.pubname, this.name)
    from pg_catalog.pg_publication p, this, hyper
   where not hyper.yes
     and (p.puballtables
          or exists (select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = this.oid)
          or exists (select from pg_catalog.pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = this.nspname::regnamespace))
  union all
  select format('constraint %s of %s is not validated: alter table %2$s validate constraint %1$I', k.conname, k.conrelid::regclass)
    from pg_catalog.pg_constraint k, this
   where this.oid in (k.conrelid, k.confrelid) and not k.convalidated
     -- One that is being led over, of this program.
     and k.conname !~ '_pulso$'
  union all
  select format('%s uses the row type of %s: drop it, and make it again afterwards', pg_describe_object(d.classid, d.objid, d.objsubid), this.name)
    from this
    join pg_catalog.pg_type t on t.oid = this.reltype
    join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_type'::regclass and d.refobjid in (t.oid, t.typarray) and d.deptype = 'n'
  union all
  select format('%s is a partition, or other tables inherit from it', name) from this, hyper where (relispartition or relhassubclass) and not hyper.yes
  union all
  select format('%s has no column %s', name, $2::text) from this where not exists (select from columns where columns.name = $2::text)
  union all
  select format('column %s of %s may be null: alter table %2$s alter %1$I set not null', c.name, this.name) from columns c, this where c.name = $2::text and not c.attnotnull
  union all
  select format('column %s of %s is of type %s: timestamptz is needed', c.name, this.name, format_type(c.atttypid, null)) from columns c, this
   where c.name = $2::text and c.atttypid <> 'timestamptz'::regtype
  union all
  select format('%s has no primary key', name) from this where not exists (select from indexes where is_primary)
  union all
  select format('unique index %s has a condition, an expression or can be deferred, and cannot be kept over chunks', i.name)
    from indexes i, hyper where not hyper.yes and i.is_unique and not i.plain
  union all
  select format('constraint %s excludes: it cannot be kept over chunks', i.name) from indexes i where i.excludes
  union all
  select format('trigger %s of %s is a constraint trigger or has transition tables, which hypertables do not have', t.name, this.name)
    from triggers t, this, hyper where not hyper.yes and (t.transitional or t.tgconstraint <> 0)
  union all
  select format('trigger %s of %s is disabled, or for replicas: triggers of hypertables are enabled: drop it, or alter table %2$s enable trigger %1$I', t.name, this.name)
    from triggers t, this, hyper where not hyper.yes and t.enabled <> 'O'
  union all
  select format('%s refers to itself by %s', this.name, k.conname) from pg_catalog.pg_constraint k, this where k.conrelid = this.oid and k.confrelid = this.oid
  union all
  select format('materialized view %s reads %s: drop it, and make it again afterwards', d.name, this.name)
    from dependents d, this where d.relkind = 'm'
  union all
  select format('a rule of %s reads or writes %s: drop it, and make it again afterwards', d.name, this.name)
    from dependents d, this where d.relkind not in ('v', 'm')
  union all
  select format('continuous aggregate %I.%I reads %s: drop it (pulso migrate undo rollups drops Pulso''s)', a.view_schema, a.view_name, this.name)
    from timescaledb_information.continuous_aggregates a, this where (a.hypertable_schema, a.hypertable_name) = (this.nspname, this.relname)
  union all
  select format('rule %s of %s', r.rulename, this.name) from pg_catalog.pg_rewrite r, this where r.ev_class = this.oid
  union all
  select format('function %s reads %s in its body: drop it, and make it again afterwards', d.objid::regprocedure, this.name)
    from pg_catalog.pg_depend d, this
   where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = this.oid and d.classid = 'pg_catalog.pg_proc'::regclass and d.deptype = 'n'
  union all
  select format('foreign key %s of %s refers to other columns of %s than a key of it has', r.name, r.from_table, this.name)
    from referring r, this where not exists (select from indexes i where i.indexrelid = r.conindid)
)
select json_build_object(
  'name', this.name,
  'schema', this.nspname,
  'table', this.relname,
  'owner', pg_get_userbyid(this.relowner),
  'hypertable', hyper.yes,
  'refusals', coalesce((select json_agg(distinct reason) from refusals), '[]'),
  'columns', (select json_agg(json_build_object('name', name, 'generated', generated, 'numbered', numbered, 'by_itself', by_itself) order by attnum) from columns),
  'indexes', coalesce((select json_agg(json_build_object('name', name, 'definition', definition, 'primary', is_primary, 'unique', is_unique,
      'constraint', constraint_definition, 'columns', columns, 'included', included, 'options', options, 'clustered', clustered, 'comment', comment) order by is_primary desc, name) from indexes), '[]'),
  'referring', coalesce((select json_agg(json_build_object('name', name, 'table', from_table, 'definition', definition, 'comment', comment) order by from_table, name) from referring), '[]'),
  'references', coalesce((select json_agg(json_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'comment', obj_description(k.oid, 'pg_constraint')) order by k.conname)
      from pg_catalog.pg_constraint k where k.conrelid = this.oid and k.contype = 'f'), '[]'),
  'triggers', coalesce((select json_agg(json_build_object('name', name, 'definition', definition, 'enabled', enabled, 'comment', comment) order by name) from triggers), '[]'),
  'views', coalesce((select json_agg(json_build_object('name', name, 'definition', definition, 'options', array_to_string(reloptions, ', ')) order by oid)
      from dependents d where d.relkind = 'v'), '[]'),
  'sequences', coalesce((select json_agg(json_build_object('column', column_name, 'sequence', sequence, 'name', name, 'identity', identity, 'sayings', (
      select coalesce(json_agg(x), '[]')
        from (
          select format('grant %s on sequence %%s to %s%s', g.privilege_type, case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
                   case when g.is_grantable then ' with grant option' else '' end)
            from aclexplode(s.relacl) g where g.grantee <> this.relowner
          union all
          select format('comment on sequence %%s is %L', obj_description(s.oid, 'pg_class')) where obj_description(s.oid, 'pg_class') is not null
        ) as t (x))) order by column_name) from sequences s), '[]'),
  -- Of a hypertable: a plain table that is published is not made one.
  'publications', coalesce((select json_agg(json_build_object('name', quote_ident(p.pubname), 'what',
      coalesce((select format(' (%s)', string_agg(quote_ident(c.name), ', ' order by c.attnum)) from columns c where c.attnum = any (r.prattrs::smallint[])), '')
        || coalesce(' where (' || pg_get_expr(r.prqual, r.prrelid) || ')', '')) order by p.pubname)
      from pg_catalog.pg_publication_rel r join pg_catalog.pg_publication p on p.oid = r.prpubid where r.prrelid = this.oid), '[]'),
  'statistics', coalesce((select json_agg(json_build_object('name', name, 'full_name', full_name, 'schema', schema, 'definition', definition[1], 'target', target, 'comment', comment)
      order by oid) from statistics), '[]'),
  'made_of', (select json_agg(made_of order by attnum) from columns)::jsonb
    || coalesce((select jsonb_agg(k.conname || ' ' || pg_get_constraintdef(k.oid) order by k.conname) from pg_catalog.pg_constraint k where k.conrelid = this.oid and k.contype = 'c'), '[]')
    || coalesce((select jsonb_agg(whole order by oid) from statistics), '[]'),
  -- What is said of the table itself; %s is the new one's name.
  'sayings', coalesce((
    select json_agg(s order by s)
      from (
        select format('comment on table %%s is %L', obj_description(this.oid, 'pg_class')) where obj_description(this.oid, 'pg_class') is not null
        union all
        select format('alter table %%s set (%s)', array_to_string(this.reloptions, ', ')) where this.reloptions is not null
        union all
        select format('alter table %%s set (%s)', (select string_agg('toast.' || o, ', ') from unnest(t.reloptions) o)) from pg_catalog.pg_class t
         where t.oid = this.reltoastrelid and t.reloptions is not null
        union all
        select format('alter table %%s replica identity %s', case this.relreplident when 'f' then 'full' when 'n' then 'nothing' end) where this.relreplident in ('f', 'n')
        union all
        select format('alter table %%s alter %I set statistics %s', c.name, c.attstattarget) from columns c where c.attstattarget >= 0
        union all
        -- Postgres notes things of its own in there too.
        select format('alter table %%s alter %I set (%s)', c.name, string_agg(o, ', ')) from columns c, unnest(c.attoptions) o where o like 'n\_distinct%' group by c.name
        union all
        select format('grant %s on %%s to %s%s', x.privilege_type, case x.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end,
                 case when x.is_grantable then ' with grant option' else '' end)
          from aclexplode(this.relacl) x where x.grantee <> this.relowner
        union all
        select format('grant %s (%I) on %%s to %s%s', x.privilege_type, c.name, case x.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end,
                 case when x.is_grantable then ' with grant option' else '' end)
          from columns c, aclexplode(c.attacl) x
      ) as t (s)), '[]'),
  'rows', this.reltuples::float8
) as shape
  from this, hyper
