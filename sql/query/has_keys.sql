-- Whether there is a key to the service.
select exists (select from pulso.api_key)
