delete from pulso.job where name = 'make_partitions';
drop function pulso.make_partitions(interval);
drop function pulso.partitioned();
drop function pulso.sources();
