-- How many jobs wait, are in flight, and are scheduled, at one moment. (Inside MULTI a Redis that is full refuses even
-- to read.)
return {redis.call('LLEN', QUEUE), redis.call('ZCARD', WIP), redis.call('ZCARD', SCHEDULED)}
