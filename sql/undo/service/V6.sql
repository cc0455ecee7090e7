drop table pulso.api_key_use;
