-- An extension that somebody else made, such as a superuser for an unprivileged role, stays.
do $$
begin
  if exists (
    select
      from pg_catalog.pg_extension e
     where e.extname = 'pulso'
       and pg_catalog.pg_has_role(e.extowner, 'usage')
  ) then
    drop extension pulso;
  end if;
end
$$;
