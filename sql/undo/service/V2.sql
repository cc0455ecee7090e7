drop table pulso.api_key;
