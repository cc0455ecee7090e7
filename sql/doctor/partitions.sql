-- Tables partitioned by ranges of time whose last partition is near, and rows that lie in no range's partition.
select case when p.ends_at < now() then 'wrong' else 'warning' end as severity, format('table %s', p.source) as object,
       format('its last partition %s %s%s', case when p.ends_at < now() then 'ended' else 'ends' end, to_char(p.ends_at, 'YYYY-MM-DD HH24:MI TZ'),
              case when p.reason is null then ', and job make_partitions has made no other'
                   else format(', and job make_partitions makes no other: %s', p.reason) end) as finding,
       case when p.reason is null then '`pulso job run make_partitions`; `pulso job history make_partitions` shows why it did not.'
            when p.default_has_rows then 'Empty its default partition (below); the job goes on by itself then.'
            else format('Make the next one by hand: create table … (like %s including all), then alter table %1$s attach partition …', p.source) end as cure
  from pulso.partitioned() p
 where p.ends_at < now() + interval '7 days'
 union all
select 'warning', format('table %s', p.default_partition),
       format('rows of %s that are in no partition''s range lie here, the default: no partition of their range can be attached', p.source),
       format('In one transaction: create table … (like %s including all); with moved as (delete from %s where %I >= … and %3$I < … returning *) insert into … select * from moved; then attach it.',
              p.source, p.default_partition, p.key)
  from pulso.partitioned() p
 where p.default_has_rows
 order by 1 desc, 2
