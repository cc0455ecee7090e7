-- How often changes are announced, in milliseconds; NULL where the engine has no feed. `0` is never.
select case when to_regprocedure('pulso.announce()') is not null
            then (1000 * extract(epoch from coalesce(current_setting('pulso.feed_interval', true), '100ms')::interval))::bigint end
