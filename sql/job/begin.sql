-- Gives a job that no worker has seen its first slot. $1: job; $2: token as seen; $3: the slot.
update pulso.job set next_slot = $3 where name = $1 and token = $2 and next_slot is null
