// What the tests let Thunderbird do. tests/support/thunderbird.rs sends this text with each command over Marionette; it runs
// with the rights of Thunderbird's own windows and uses the modules that they use.
const { AddonManager } = ChromeUtils.importESModule('resource://gre/modules/AddonManager.sys.mjs');
const { MailServices } = ChromeUtils.importESModule('resource:///modules/MailServices.sys.mjs');

const windows = () => [...Services.wm.getEnumerator(null)];
const mainWindow = () => Services.wm.getMostRecentWindow('mail:3pane');
const server = (type) => MailServices.accounts.accounts.map((a) => a.incomingServer).find((s) => s.type === type);
const inbox = (type) => server(type).rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);

/** Whether Thunderbird is ready for more. */
const isUp = () => Boolean(mainWindow()?.msgWindow);

/** Installs an add-on from an address. */
async function install(address) {
    const addOn = await (await AddonManager.getInstallForURL(address)).install();
    return { id: addOn.id, version: addOn.version, isActive: addOn.isActive };
}

/** What Thunderbird knows of signing in to this mail server. */
function signInOf(host) {
    const { OAuth2Providers } = ChromeUtils.importESModule('resource:///modules/OAuth2Providers.sys.mjs');
    const found = OAuth2Providers.getHostnameDetails(host, 'imap');
    return found && { ...OAuth2Providers.getIssuerDetails(found.issuer), scopes: found.allScopes };
}

/** Every https address without a port leads to this one. */
function findWebAt(port) {
    Services.prefs.setStringPref('network.socket.forcePort', `443=${port}`);
}

/** Looks for a newer add-on where this one says, and installs it; its version then. */
async function update(id) {
    const addOn = await AddonManager.getAddonByID(id);
    const found = await new Promise((resolve) => {
        const listener = {
            onUpdateAvailable: (_, install) => resolve(install),
            onNoUpdateAvailable: () => resolve(null),
            onUpdateFinished: (_, error) => error && resolve(Promise.reject(new Error(`update: ${error}`)))
        };
        addOn.findUpdates(listener, AddonManager.UPDATE_WHEN_USER_REQUESTED);
    });
    return found && (await found.install()).version;
}

/** Adds the account of this type that a domain's autoconfig offers, as account set-up does: found by the address alone. */
async function addAccount(type, person, address) {
    const module = (name) => ChromeUtils.importESModule(`resource:///modules/accountcreation/${name}.sys.mjs`)[name];
    const domain = address.split('@')[1];
    const config = await module('FetchConfig').fromISP(domain, address, new AbortController().signal);
    config.incoming = [config.incoming, ...config.incomingAlternatives].find((incoming) => incoming.type === type);
    module('AccountConfig').replaceVariables(config, person, address, '');
    const { incomingServer: made } = await module('CreateInBackend').createAccountInBackend(config);
    return { host: config.incoming.hostname, port: made.port, user: made.username, from: config.subSource };
}

/** Keeps what Thunderbird wants to tell its user. */
function listenToAlerts() {
    mainWindow().heard = [];
    MailServices.mailSession.addUserFeedbackListener({
        QueryInterface: ChromeUtils.generateQI(['nsIMsgUserFeedbackListener']),
        onAlert(message) {
            mainWindow().heard.push(message);
            return true;
        },
        onCertError: () => {}
    });
}

const alerts = () => mainWindow().heard;

/** Connects by IMAP, which asks for a sign-in if there is none. */
function connect() {
    server('imap').performExpand(mainWindow().msgWindow);
}

/** Looks for mail in the inbox. */
function checkMail(type) {
    if (type === 'imap') inbox(type).updateFolder(mainWindow().msgWindow);
    else MailServices.pop3.GetNewMail(mainWindow().msgWindow, null, inbox(type), server(type));
}

/** The folders on the server, by name. */
function folders() {
    return server('imap').rootFolder.subFolders.map((folder) => folder.name);
}

/** The subjects of the inbox. */
function subjects(type) {
    return [...(inbox(type)?.messages ?? [])].map((message) => message.mime2DecodedSubject).sort();
}

const signInWindow = () => windows().find((window) => window.location.href.endsWith('/browserRequest.xhtml'));

/** Fills in a form of the sign-in page and sends it, once the page has such a field or, without fields, such a text. */
async function answerSignIn(text, fields) {
    const browser = signInWindow()?.document.getElementById('requestFrame');
    const messages = browser?.messageManager;
    if (!messages) return false;
    const inPage = (text, fields) => {
        const page = content.document;
        const form = page.querySelector('form');
        const isIt = page.readyState === 'complete' && form && page.body.innerText.includes(text);
        if (isIt) {
            for (const [name, value] of Object.entries(fields)) form.querySelector(`[name=${name}]`).value = value;
            form.querySelector('[type=submit]').click();
        }
        sendAsyncMessage('tests:answered', Boolean(isIt));
    };
    const code = `(${inPage})(${JSON.stringify(text)}, ${JSON.stringify(fields)})`;
    return new Promise((resolve) => {
        const heard = ({ data }) => {
            messages.removeMessageListener('tests:answered', heard);
            resolve(data);
        };
        messages.addMessageListener('tests:answered', heard);
        messages.loadFrameScript(`data:,${encodeURIComponent(code)}`, false);
    });
}

/** Whether a sign-in page is open. */
const isSigningIn = () => Boolean(signInWindow());

const folderNamed = (name) =>
    server('imap')?.rootFolder.descendants.find((folder) => folder.name === name || folder.prettyPath === name);
const messageOf = (folder, subject) => [...folder.messages].find((message) => message.mime2DecodedSubject === subject);

/** Does something that tells a listener of copying when it is over. */
const untilCopied = (start) =>
    new Promise((resolve, reject) =>
        start({
            QueryInterface: ChromeUtils.generateQI(['nsIMsgCopyServiceListener']),
            onStartCopy() {},
            onProgress() {},
            setMessageKey() {},
            getMessageId: () => null,
            onStopCopy: (status) => (Components.isSuccessCode(status) ? resolve() : reject(new Error(`status ${status}`)))
        })
    );

/** The same with a listener of addresses. */
const untilRun = (start) =>
    new Promise((resolve, reject) =>
        start({
            QueryInterface: ChromeUtils.generateQI(['nsIUrlListener']),
            OnStartRunningUrl() {},
            OnStopRunningUrl: (_, status) =>
                Components.isSuccessCode(status) ? resolve() : reject(new Error(`status ${status}`))
        })
    );

/** How many messages Thunderbird knows in a folder, and how many of them it has read to the end for offline use. */
function counted(name) {
    const folder = folderNamed(name);
    const messages = [...(folder?.messages ?? [])];
    return [messages.length, messages.filter((message) => folder.hasMsgOffline(message.messageKey)).length];
}

/** The subjects of a folder. */
const subjectsIn = (name) => [...(folderNamed(name)?.messages ?? [])].map((m) => m.mime2DecodedSubject).sort();

/** Looks for news in a folder. */
function look(name) {
    folderNamed(name).updateFolder(mainWindow().msgWindow);
}

/** Shows a folder, as a click on it does. */
function show(name) {
    mainWindow().document.getElementById('tabmail').currentAbout3Pane.displayFolder(folderNamed(name).URI);
}

/** Clicks on the message of this subject in the folder shown; whether it was there. */
function choose(subject) {
    const pane = mainWindow().document.getElementById('tabmail').currentAbout3Pane;
    const row = pane.gDBView?.findIndexOfMsgHdr(messageOf(pane.gFolder, subject), false) ?? -1;
    if (row >= 0 && row < 0xffffffff) pane.threadTree.selectedIndex = row;
    return row >= 0 && row < 0xffffffff;
}

/** The text of the message that is shown. */
function shown() {
    const message = mainWindow().document.getElementById('tabmail').currentAboutMessage;
    return message?.getMessagePaneBrowser()?.contentDocument?.body?.textContent ?? '';
}

/** A message as it came, from the server or from what is kept for offline use. */
function source(name, subject) {
    const folder = folderNamed(name);
    const uri = folder.getUriForMsg(messageOf(folder, subject));
    const input = Cc['@mozilla.org/scriptableinputstream;1'].createInstance(Ci.nsIScriptableInputStream);
    return new Promise((resolve, reject) => {
        let text = '';
        const listener = {
            QueryInterface: ChromeUtils.generateQI(['nsIStreamListener', 'nsIRequestObserver']),
            onStartRequest() {},
            onDataAvailable(_, stream, __, count) {
                input.init(stream);
                text += input.read(count);
            },
            onStopRequest: (_, status) =>
                Components.isSuccessCode(status) ? resolve(text) : reject(new Error(`status ${status}`))
        };
        MailServices.messageServiceFromURI(uri).streamMessage(uri, listener, mainWindow().msgWindow, null, false, '', false);
    });
}

/** Puts the star on a message. */
function star(name, subject) {
    const folder = folderNamed(name);
    folder.markMessagesFlagged([messageOf(folder, subject)], true);
}

/** Gives a message a tag, which is a keyword on the server. */
function tag(name, subject, keyword) {
    const folder = folderNamed(name);
    folder.addKeywordsToMessages([messageOf(folder, subject)], keyword);
}

/** Makes a folder. */
function makeFolder(name) {
    server('imap').rootFolder.createSubfolder(name, mainWindow().msgWindow);
}

/** Copies or moves messages to another folder. */
function bring(from, subjects, to, isMove) {
    const folder = folderNamed(from);
    const messages = subjects.map((subject) => messageOf(folder, subject));
    return untilCopied((listener) =>
        MailServices.copy.copyMessages(folder, messages, folderNamed(to), isMove, listener, mainWindow().msgWindow, true)
    );
}

/** Whether it shows what was done to messages of this folder and has not heard from the server that it is so. */
const hasMoreToTell = (name) => folderNamed(name).getFlag(Ci.nsMsgFolderFlags.OfflineEvents);

/** Keeps a letter in a folder, as sending does with the copy for Sent. */
async function keep(name, text) {
    const file = Services.dirsvc.get('TmpD', Ci.nsIFile);
    file.append('letter.eml');
    file.createUnique(Ci.nsIFile.NORMAL_FILE_TYPE, 0o600);
    await IOUtils.writeUTF8(file.path, text);
    await untilCopied((listener) =>
        MailServices.copy.copyFileMessage(
            file, folderNamed(name), null, false, Ci.nsMsgMessageFlags.Read, '', listener, mainWindow().msgWindow
        )
    );
    await IOUtils.remove(file.path);
}

/** Deletes messages: to the folder of the deleted, or for good. */
function remove(name, subjects, isForGood) {
    const folder = folderNamed(name);
    const messages = subjects.map((subject) => messageOf(folder, subject));
    folder.deleteMessages(messages, mainWindow().msgWindow, isForGood, false, null, false);
}

/** Expunges a folder, as "Compact" does. */
function compact(name) {
    return untilRun((listener) => folderNamed(name).compact(listener, mainWindow().msgWindow));
}

/** Has the server search a folder's messages for a text; the subjects of those found. */
function searchOnServer(name, text) {
    const session = Cc['@mozilla.org/messenger/searchSession;1'].createInstance(Ci.nsIMsgSearchSession);
    session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folderNamed(name));
    const term = session.createTerm();
    const { value } = term;
    value.attrib = term.attrib = Ci.nsMsgSearchAttrib.Body;
    value.str = text;
    term.value = value;
    term.op = Ci.nsMsgSearchOp.Contains;
    session.appendTerm(term);
    return new Promise((resolve, reject) => {
        const found = [];
        session.registerListener({
            QueryInterface: ChromeUtils.generateQI(['nsIMsgSearchNotify']),
            onSearchHit: (message) => found.push(message.mime2DecodedSubject),
            onSearchDone: (status) =>
                Components.isSuccessCode(status) ? resolve(found.sort()) : reject(new Error(`status ${status}`)),
            onNewSearch() {}
        });
        session.search(mainWindow().msgWindow);
    });
}

/** Reads every message of a folder to the end, to have it offline. */
function download(name) {
    const folder = folderNamed(name);
    folder.setFlag(Ci.nsMsgFolderFlags.Offline);
    return untilRun((listener) => folder.downloadAllForOffline(listener, mainWindow().msgWindow));
}

/** Without a network. */
function goOffline() {
    Services.io.offline = true;
}

/** With one again; what was done meanwhile is told to the server. */
function goOnline() {
    const manager = Cc['@mozilla.org/messenger/offline-manager;1'].getService(Ci.nsIMsgOfflineManager);
    manager.goOnline(false, true, mainWindow().msgWindow);
}
