-- Every key ends with it.
drop table pulso.api_key;
