// What the tests let Thunderbird do. tests/support/thunderbird.rs sends this text with each command over Marionette; it runs
// with the rights of Thunderbird's own windows and uses the modules that they use.
const { AddonManager } = ChromeUtils.importESModule('resource://gre/modules/AddonManager.sys.mjs');
const { MailServices } = ChromeUtils.importESModule('resource:///modules/MailServices.sys.mjs');

const windows = () => [...Services.wm.getEnumerator(null)];
const mainWindow = () => Services.wm.getMostRecentWindow('mail:3pane');
const server = () => MailServices.accounts.accounts.map((a) => a.incomingServer).find((s) => s.type !== 'none');
const inbox = () => server().rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);

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

/** Adds the account that an autoconfig file describes, as account set-up does after it has fetched the file. */
async function addAccount(address, person, mailAddress) {
    const module = (name) => ChromeUtils.importESModule(`resource:///modules/accountcreation/${name}.sys.mjs`)[name];
    const { JXON } = ChromeUtils.importESModule('resource:///modules/JXON.sys.mjs');
    const text = await (await fetch(address)).text();
    const xml = JXON.build(new DOMParser().parseFromString(text, 'text/xml'));
    const config = module('readFromXML')(xml, 'the tests');
    module('AccountConfig').replaceVariables(config, person, mailAddress, '');
    const account = await module('CreateInBackend').createAccountInBackend(config);
    const made = account.incomingServer;
    made.loginAtStartUp = false;
    return { type: made.type, host: config.incoming.hostname, port: made.port, user: made.username };
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

/** Connects, which asks for a sign-in if there is none. */
function connect() {
    server().performExpand(mainWindow().msgWindow);
}

/** Looks for mail in the inbox. */
function checkMail() {
    inbox().updateFolder(mainWindow().msgWindow);
}

/** The folders, by name. */
function folders() {
    return server().rootFolder.subFolders.map((folder) => folder.name);
}

/** The subjects of the inbox. */
function subjects() {
    return [...(inbox()?.messages ?? [])].map((message) => message.mime2DecodedSubject);
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
