// A certified OpenID provider (npm oidc-provider) on a free loopback port, and a browser's part of a sign-in at it.
// Prints `ready ISSUER`, then obeys lines on standard input, one answer each:
//   token USER    authorization code with PKCE, as a mail program does it; answers `token ACCESS_TOKEN`
//   id-token USER the same; answers with the ID token instead, which is no access token
//   tell ADDRESS  sends logout tokens there from now on; answers `told ADDRESS`
//   logout USER   ends the last sign-in of USER, as a browser does it; answers `logout STATUS` of the address told
//   console ADDRESS [full]  makes the app `console` of a gateway at ADDRESS; with `full` ID tokens hold the address of
//                 their user, otherwise the userinfo endpoint tells it; answers `console ADDRESS`
//   rotate        signs with a new key from now on and withdraws the old one; answers `rotated KID`
//   down, up      stops and starts answering HTTP; answers `down`, `up`
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const CLIENT = 'test-mail';
const REDIRECT = 'http://127.0.0.1/done';
const RESOURCE = 'urn:portcullis';

let keys = 0;
function newKey() {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return { ...privateKey.export({ format: 'jwk' }), kid: `provider-${++keys}`, use: 'sig', alg: 'ES256' };
}

let gateway;
let idTokenInFull = false;
function consoleApp() {
    return {
        client_id: 'console',
        client_secret: 'a secret: with +signs/',
        application_type: gateway.startsWith('https:') ? 'web' : 'native',
        redirect_uris: [`${gateway}/signin/callback`],
        post_logout_redirect_uris: [`${gateway}/`],
        backchannel_logout_uri: logoutAddress,
        backchannel_logout_session_required: true,
        id_token_signed_response_alg: 'ES256'
    };
}

let logoutAddress;
let logoutOutcome;
function provider(issuer, key) {
    return new Provider(issuer, {
        clients: [
            {
                client_id: CLIENT,
                application_type: 'native',
                token_endpoint_auth_method: 'none',
                redirect_uris: [REDIRECT],
                grant_types: ['authorization_code', 'refresh_token'],
                backchannel_logout_uri: logoutAddress,
                backchannel_logout_session_required: true,
                id_token_signed_response_alg: 'ES256'
            },
            ...(gateway ? [consoleApp()] : [])
        ],
        conformIdTokenClaims: !idTokenInFull,
        jwks: { keys: [key] },
        cookies: { keys: ['not a secret: tests only'] },
        scopes: ['openid', 'mail'],
        // Mail programs ask for no offline_access where it is not granted in so many words.
        issueRefreshToken: async () => true,
        claims: { openid: ['sub', 'email'] },
        findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: id }) }),
        extraTokenClaims: (_, token) => ({ email: token.accountId }),
        // Without the provider's guard against addresses on loopback: the gateway is there.
        fetch: (address, { dispatcher: _, ...options }) => fetch(address, options),
        ttl: { AccessToken: 3600, RefreshToken: 3600, IdToken: 3600, Grant: 3600, Session: 3600, Interaction: 600 },
        features: {
            devInteractions: { enabled: true },
            backchannelLogout: { enabled: true },
            rpInitiatedLogout: {
                enabled: true,
                logoutSource: (context, form) => (context.body = form),
                postLogoutSuccessSource: (context) => (context.body = 'out')
            },
            resourceIndicators: {
                enabled: true,
                defaultResource: (_, client) => (client.clientId === CLIENT ? RESOURCE : undefined),
                useGrantedResource: () => true,
                getResourceServerInfo: () => ({
                    scope: 'mail',
                    audience: 'portcullis',
                    accessTokenFormat: 'jwt',
                    jwt: { sign: { alg: 'ES256' } }
                })
            }
        }
    });
}

let current;
let currentKey;
let isUp = true;
const server = createServer((request, response) => {
    if (isUp) current(request, response);
    else response.writeHead(503).end('down');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://localhost:${server.address().port}`;
function use(key) {
    const p = provider(issuer, key);
    p.on('server_error', (_, error) => console.error(error));
    p.on('backchannel.success', () => (logoutOutcome = '200'));
    p.on('backchannel.error', (_, error) => (logoutOutcome = error.message));
    currentKey = key;
    current = p.callback();
}
use(newKey());

/** What visits pages with the cookies of a user's last sign-in. */
const browsers = new Map();

/** Signs `user` in as a browser and a native program do, and gives the token endpoint's answer. */
async function signIn(user) {
    const base = issuer;
    const cookies = new Map();
    async function visit(address, form) {
        const response = await fetch(new URL(address, base), {
            method: form ? 'POST' : 'GET',
            body: form && new URLSearchParams(form),
            headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
            redirect: 'manual'
        });
        for (const line of response.headers.getSetCookie()) {
            const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
            value ? cookies.set(name, value) : cookies.delete(name);
        }
        return response;
    }

    browsers.set(user, visit);
    const { authorization_endpoint, token_endpoint } = await (await visit('/.well-known/openid-configuration')).json();
    const verifier = randomBytes(32).toString('base64url');
    const question = new URLSearchParams({
        client_id: CLIENT,
        response_type: 'code',
        redirect_uri: REDIRECT,
        scope: 'openid mail',
        resource: RESOURCE,
        state: 'st',
        code_challenge: createHash('sha256').update(verifier).digest('base64url'),
        code_challenge_method: 'S256'
    });
    let response = await visit(`${authorization_endpoint}?${question}`);
    for (let steps = 0; steps < 20; steps++) {
        const to = response.headers.get('location');
        if (to?.startsWith(REDIRECT)) {
            const code = new URL(to).searchParams.get('code');
            if (!code) throw new Error(`no code in ${to}`);
            const answer = await visit(token_endpoint, {
                grant_type: 'authorization_code',
                code,
                client_id: CLIENT,
                redirect_uri: REDIRECT,
                code_verifier: verifier,
                resource: RESOURCE
            });
            return answer.json();
        }
        if (to) {
            response = await visit(to);
            continue;
        }
        const page = await response.text();
        const [, action] = page.match(/<form[^>]*action="([^"]+)"/) ?? [];
        const [, prompt] = page.match(/name="prompt" value="([^"]+)"/) ?? [];
        if (!action) throw new Error(`no form: ${page}`);
        response = await visit(action, { prompt, login: user, password: 'x' });
    }
    throw new Error('the sign-in does not end');
}

/** Ends `user`'s sign-in at the provider, which then tells whoever asked to be told. */
async function signOut(user) {
    const visit = browsers.get(user);
    const page = await (await visit('/session/end')).text();
    const [, xsrf] = page.match(/name="xsrf" value="([^"]+)"/);
    logoutOutcome = 'nobody told';
    await visit('/session/end/confirm', { xsrf, logout: 'yes' });
    return logoutOutcome;
}

console.log(`ready ${issuer}`);
for await (const line of createInterface({ input: process.stdin })) {
    const [command, user] = line.split(' ');
    try {
        if (command === 'token') {
            console.log(`token ${(await signIn(user)).access_token}`);
        } else if (command === 'id-token') {
            console.log(`token ${(await signIn(user)).id_token}`);
        } else if (command === 'tell') {
            logoutAddress = user;
            use(currentKey);
            console.log(`told ${user}`);
        } else if (command === 'console') {
            idTokenInFull = line.endsWith(' full');
            gateway = user;
            use(currentKey);
            console.log(`console ${user}`);
        } else if (command === 'logout') {
            console.log(`logout ${await signOut(user)}`);
        } else if (command === 'rotate') {
            const key = newKey();
            use(key);
            console.log(`rotated ${key.kid}`);
        } else if (command === 'down' || command === 'up') {
            isUp = command === 'up';
            console.log(command);
        } else {
            console.log(`unknown command ${command}`);
        }
    } catch (error) {
        console.log(`failed ${error.stack}`.replaceAll('\n', ' | '));
    }
}
process.exit(0);
