-- imapfilter 2.8: a day with the mailbox that tests/clients_day.rs makes.
options.timeout = 30
options.subscribe = true
local blob = [[printf 'user=%s\001auth=Bearer %s\001\001' "$USER" "$TOKEN" | base64 -w0]]
local _, oauth2 = pipe_from(blob)
local gate = IMAP { server = 'localhost', port = tonumber(os.getenv('IMAPS')), username = os.getenv('USER'), oauth2 = oauth2, ssl = 'auto' }

gate:create_mailbox('Work')
gate:subscribe_mailbox('Work')
local folders = gate:list_all()
print('folders', table.concat(folders, ' '))
print('subscribed', table.concat(gate:list_subscribed(), ' '))
local inbox = gate.INBOX
inbox:contain_subject('letter 1'):mark_flagged()
inbox:contain_subject('letter 2'):copy_messages(gate.Work)
inbox:contain_body('ZEBRA'):move_messages(gate.Work)
inbox:match_subject('letter [4]'):delete_messages()
for _, message in ipairs(inbox:contain_subject('letter 5')) do
    local mailbox, uid = table.unpack(message)
    print('read', (mailbox[uid]:fetch_message():gsub('\r', '')))
end
inbox:contain_subject('letter 5'):mark_seen()
gate.Sent:append_message('Subject: by imapfilter\r\n\r\nA letter.\r\n', { '\\Seen' }, '01-Nov-2026 10:00:00 +0000')
print('unseen', #inbox:is_unseen(), 'flagged', #(inbox:is_flagged() * inbox:is_smaller(100000)))
