-- Replace the details of entries of a log; ids, order and other fields stay. ARGV[3] the stream's key, [4] the number
-- of changed entries, and each: id, details. Returns how many were changed.
local key, count = ARGV[3], tonumber(ARGV[4])
local details, changed = {}, 0
for n = 0, count - 1 do details[ARGV[5 + 2 * n]] = ARGV[6 + 2 * n] end
local entries = redis.call('XREVRANGE', key, '+', '-')
redis.call('DEL', key)
for n = #entries, 1, -1 do
  local id, fields = entries[n][1], entries[n][2]
  for at = 1, #fields, 2 do
    if fields[at] == 'details' and details[id] then
      fields[at + 1] = details[id]
      changed = changed + 1
    end
  end
  redis.call('XADD', key, id, unpack(fields))
end
return changed
