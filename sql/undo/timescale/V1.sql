drop table pulso.conversion;
drop function pulso.no_row();
