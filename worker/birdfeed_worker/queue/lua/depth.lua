-- How many jobs wait, are in flight, and are scheduled, in one step. (Inside MULTI a full Redis refuses even reads.)
return {redis.call('LLEN', QUEUE), redis.call('ZCARD', WIP), redis.call('ZCARD', SCHEDULED)}
