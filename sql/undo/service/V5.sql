delete from pulso.job where name = 'make_chunks';
drop function pulso.make_chunks(interval);
