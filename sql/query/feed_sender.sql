-- Whether the extension's worker announces each commit in time. Settings that an older extension does not have do not count.
select pulso.folder_running()
   and coalesce(current_setting('pulso.fold', true), 'on') = 'on'
   and coalesce(current_setting('pulso.feed_interval', true), '100ms') not in ('0', '0ms')
