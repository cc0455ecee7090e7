-- What pulso.create_rollup of version 0.1.0 made of two queries. It stays as it is: databases of that version have it.
create view pulso.r_1_query as select k, count(*) as n, sum(x) as total, avg(x::numeric(10, 2)) as mean from public.t group by k;
create table pulso.r_1_base (k1 int4, n int8 not null default 0, c1 int8 not null default 0, s1 numeric not null default 0, nan1 int8 not null default 0, pinf1 int8 not null default 0, ninf1 int8 not null default 0, c2 int8 not null default 0, s2 numeric not null default 0, nan2 int8 not null default 0, pinf2 int8 not null default 0, ninf2 int8 not null default 0) with (fillfactor = 50);
create unique index on pulso.r_1_base (k1) nulls not distinct;
create table pulso.r_1_delta (gen int8 not null, k1 int4, n int8 not null default 0, c1 int8 not null default 0, s1 numeric not null default 0, nan1 int8 not null default 0, pinf1 int8 not null default 0, ninf1 int8 not null default 0, c2 int8 not null default 0, s2 numeric not null default 0, nan2 int8 not null default 0, pinf2 int8 not null default 0, ninf2 int8 not null default 0) with (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_insert_threshold = -1,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, autovacuum_vacuum_cost_delay = 0);
create index on pulso.r_1_delta (gen);
insert into pulso.r_1_base (k1, n, c1, s1, nan1, pinf1, ninf1, c2, s2, nan2, pinf2, ninf2)
select k1, count(*), count(x1), coalesce(sum(x1) filter (where x1 not in ('NaN', 'Infinity', '-Infinity')), 0), count(*) filter (where x1 = 'NaN'), count(*) filter (where x1 = 'Infinity'), count(*) filter (where x1 = '-Infinity'), count(x2), coalesce(sum(x2) filter (where x2 not in ('NaN', 'Infinity', '-Infinity')), 0), count(*) filter (where x2 = 'NaN'), count(*) filter (where x2 = 'Infinity'), count(*) filter (where x2 = '-Infinity') from (select k as k1, x as x1, x::numeric(10, 2) as x2 from only public.t) as q group by k1;
create view public.r as
select m.k1 as k, m.n as n, pulso.sum_of(m.c1, m.s1, m.nan1, m.pinf1, m.ninf1) as total, (pulso.sum_of(m.c2, m.s2, m.nan2, m.pinf2, m.ninf2))::numeric / nullif(m.c2, 0)::numeric as mean
  from (select k1, coalesce(sum(n), 0)::int8 as n, coalesce(sum(c1), 0)::int8 as c1, coalesce(sum(s1), 0) as s1, coalesce(sum(nan1), 0)::int8 as nan1, coalesce(sum(pinf1), 0)::int8 as pinf1, coalesce(sum(ninf1), 0)::int8 as ninf1, coalesce(sum(c2), 0)::int8 as c2, coalesce(sum(s2), 0) as s2, coalesce(sum(nan2), 0)::int8 as nan2, coalesce(sum(pinf2), 0)::int8 as pinf2, coalesce(sum(ninf2), 0)::int8 as ninf2
          from (select k1, n, c1, s1, nan1, pinf1, ninf1, c2, s2, nan2, pinf2, ninf2 from pulso.r_1_base
                union all
                select k1, n, c1, s1, nan1, pinf1, ninf1, c2, s2, nan2, pinf2, ninf2 from pulso.r_1_delta
                 where (gen > (select s.folded_through from pulso.state s where s.id = 1) or gen = any ((select s.open_generations from pulso.state s where s.id = 1)::int8[]))
               ) as p group by k1) as m
 where (select s.live from pulso.state s where s.id = 1) and m.n > 0
union all
select d.* from pulso.r_1_query as d where (select s.live from pulso.state s where s.id = 1) is not true;
insert into pulso.rollup (view, definition, source, base, delta)
values ('public.r', 'pulso.r_1_query', 'public.t', 'pulso.r_1_base', 'pulso.r_1_delta');
insert into pulso.state (id) values (1);

create view pulso.w_2_query as select count(*) as n, sum(x) as total from public.t where k <> 2;
create table pulso.w_2_base (n int8 not null default 0, c1 int8 not null default 0, s1 numeric not null default 0, nan1 int8 not null default 0, pinf1 int8 not null default 0, ninf1 int8 not null default 0) with (fillfactor = 50);
create unique index on pulso.w_2_base ((true)) nulls not distinct;
create table pulso.w_2_delta (gen int8 not null, n int8 not null default 0, c1 int8 not null default 0, s1 numeric not null default 0, nan1 int8 not null default 0, pinf1 int8 not null default 0, ninf1 int8 not null default 0) with (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_insert_threshold = -1,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, autovacuum_vacuum_cost_delay = 0);
create index on pulso.w_2_delta (gen);
insert into pulso.w_2_base (n, c1, s1, nan1, pinf1, ninf1)
select count(*), count(x1), coalesce(sum(x1) filter (where x1 not in ('NaN', 'Infinity', '-Infinity')), 0), count(*) filter (where x1 = 'NaN'), count(*) filter (where x1 = 'Infinity'), count(*) filter (where x1 = '-Infinity') from (select x as x1 from only public.t where k <> 2) as q;
create view public.w as
select m.n as n, pulso.sum_of(m.c1, m.s1, m.nan1, m.pinf1, m.ninf1) as total
  from (select coalesce(sum(n), 0)::int8 as n, coalesce(sum(c1), 0)::int8 as c1, coalesce(sum(s1), 0) as s1, coalesce(sum(nan1), 0)::int8 as nan1, coalesce(sum(pinf1), 0)::int8 as pinf1, coalesce(sum(ninf1), 0)::int8 as ninf1
          from (select n, c1, s1, nan1, pinf1, ninf1 from pulso.w_2_base
                union all
                select n, c1, s1, nan1, pinf1, ninf1 from pulso.w_2_delta
                 where (gen > (select s.folded_through from pulso.state s where s.id = 2) or gen = any ((select s.open_generations from pulso.state s where s.id = 2)::int8[]))
               ) as p) as m
 where (select s.live from pulso.state s where s.id = 2)
union all
select d.* from pulso.w_2_query as d where (select s.live from pulso.state s where s.id = 2) is not true;
insert into pulso.rollup (view, definition, source, base, delta)
values ('public.w', 'pulso.w_2_query', 'public.t', 'pulso.w_2_base', 'pulso.w_2_delta');
insert into pulso.state (id) values (2);

create trigger pulso_insert after insert on public.t referencing new table as pulso_new for each statement execute function pulso.capture();
create trigger pulso_update after update on public.t referencing old table as pulso_old new table as pulso_new for each statement execute function pulso.capture();
create trigger pulso_delete after delete on public.t referencing old table as pulso_old for each statement execute function pulso.capture();
create trigger pulso_truncate before truncate on public.t for each statement execute function pulso.capture();
