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
