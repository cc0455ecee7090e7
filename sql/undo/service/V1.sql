drop view pulso.freshness;
drop function pulso.refresh_view(regclass), pulso.last_refresh(text, text);
drop table pulso.job_run, pulso.job, pulso.view_refresh;
