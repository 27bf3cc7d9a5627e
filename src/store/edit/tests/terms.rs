//! Where mail is, what can only be read, what users may use up: set, kept, told, inherited, and whose business it is.

use super::*;
use crate::model::MailHome;

on_both! {
    what_a_unit_a_user_and_an_app_say_besides_is_kept_and_is_in_the_audit_log;
    where_mail_is_is_not_for_a_subtrees_admin_to_say;
    a_preview_names_the_sessions_that_would_fall_because_the_mailbox_moves_or_can_only_be_read;
    an_exported_home_is_applied_and_a_line_taken_out_of_the_file_is_gone;
}

fn home(text: &str) -> Option<Option<MailHome>> {
    Some(Some(MailHome::parse(text).unwrap()))
}

fn mail_of_unit(path: &str, text: &str) -> Directive {
    Directive::Unit(unit(path), Action::Change(UnitPatch { mail: home(text), ..UnitPatch::default() }))
}

fn mail_of_user(name: &str, text: &str) -> Directive {
    Directive::User(user(name), Action::Change(UserPatch { mail: home(text), ..UserPatch::default() }))
}

fn home_of(store: &Store, name: &str) -> String {
    let home = store.read(|directory| directory.home_of(&user(name)));
    home.map_or("default".to_owned(), |home| home.to_string())
}

async fn what_a_unit_a_user_and_an_app_say_besides_is_kept_and_is_in_the_audit_log(ground: Ground) {
    let store = furnished(&ground).await;
    let patch = UnitPatch {
        mail: home("dovecot"),
        read_only: Some(Some(true)),
        sessions_per_user: Some(Some(Ceiling::At(4))),
        bytes_per_day: Some(Some(Ceiling::At(1 << 30))),
        ..UnitPatch::default()
    };
    let app_patch = AppPatch { read_only: Some(true), ..AppPatch::default() };
    let list = [
        Directive::Unit(unit("/Sales"), Action::Change(patch)),
        mail_of_user("bob", "dovecot/mail2.internal"),
        Directive::App(app("viewer"), Action::Make(app_patch)),
    ];
    change(&store, list).await.unwrap();
    for store in [&store, &open(&ground).await] {
        let row = store.unit(&unit("/Sales")).await.unwrap().unwrap().value;
        assert_eq!((Some(row.mail), row.read_only), (home("dovecot"), Some(true)));
        assert_eq!(row.limits.to_string(), "sessions per user 4, bytes per day 1G");
        let bob = store.user(&user("bob")).await.unwrap().unwrap();
        assert_eq!((Some(bob.value.mail), bob.managed_by.as_str()), (home("dovecot/mail2.internal"), "admin"));
        assert!(store.app(&app("viewer")).await.unwrap().unwrap().value.read_only);
        assert_eq!(
            (home_of(store, "ann"), home_of(store, "bob")),
            ("dovecot".into(), "dovecot/mail2.internal".into())
        );
        assert_eq!(home_of(store, "team"), "default", "a shared mailbox of no unit follows the root");
        store.read(|directory| {
            let (ann, below) = (user("ann"), unit("/Sales/Field"));
            assert_eq!(directory.session_limit(&ann), Some(Ceiling::At(4)));
            assert_eq!(directory.byte_limit(&ann).map(|bound| bound.most), Some(1 << 30));
            assert!(directory.read_only_for_unit(&below) && !directory.read_only_for_unit(&unit("/")));
        });
    }
    for (event, words) in [
        ("unit.changed", ", mail dovecot, read-only true, sessions per user 4, bytes per day 1G"),
        ("user.changed", ", mail dovecot/mail2.internal"),
        ("app.made", "trusted, read-only"),
    ] {
        let filter = AuditFilter { event: Some(event.to_owned()), ..AuditFilter::default() };
        let rows = store.audit_recent(&filter).await.unwrap();
        let detail = rows[0].detail.as_deref().unwrap();
        assert!(detail.contains(words), "{detail}");
    }
    // What a patch leaves out stays; what it takes away is inherited again.
    change(&store, [Directive::Unit(unit("/Sales"), Action::Change(imap("any")))]).await.unwrap();
    assert_eq!(home_of(&store, "ann"), "dovecot");
    let inherit = UserPatch { mail: Some(None), ..UserPatch::default() };
    change(&store, [Directive::User(user("bob"), Action::Change(inherit))]).await.unwrap();
    assert_eq!(home_of(&store, "bob"), "dovecot");
}

async fn where_mail_is_is_not_for_a_subtrees_admin_to_say(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [mail_of_unit("/Sales", "dovecot")]).await.unwrap();
    let sales = unit("/Sales");
    let actor = Actor { within: Some(&sales), ..ADMIN };
    let none = UnitPatch { mail: Some(None), ..UnitPatch::default() };
    let new = UserPatch { mail: home("maildir"), ..in_unit("/Sales") };
    for directive in [
        mail_of_unit("/Sales", "maildir"),
        mail_of_unit("/Sales/Field", "maildir"),
        Directive::Unit(sales.clone(), Action::Change(none)),
        Directive::Unit(
            unit("/Sales/New"),
            Action::Make(UnitPatch { mail: home("maildir"), ..UnitPatch::default() }),
        ),
        mail_of_user("ann", "dovecot/mail1"),
        Directive::User(user("new"), Action::Make(new)),
    ] {
        let refused = store.change(&[directive.clone().into()], actor).await.unwrap_err();
        assert!(matches!(refused, EditError::OutOfReach { .. }), "{directive:?}: {refused}");
        assert!(refused.to_string().contains("would have its mail elsewhere (mail)"), "{refused}");
    }
    assert_eq!(home_of(&store, "ann"), "dovecot");
    // What is read there, and how much, is theirs as the other settings are.
    let theirs =
        UnitPatch { read_only: Some(Some(true)), bytes_per_day: Some(Some(Ceiling::At(1))), ..imap("any") };
    let wish = Directive::Unit(sales.clone(), Action::Change(theirs)).into();
    store.change(&[wish], actor).await.unwrap();
}

async fn a_preview_names_the_sessions_that_would_fall_because_the_mailbox_moves_or_can_only_be_read(
    ground: Ground,
) {
    let store = furnished(&ground).await;
    let seat = |name: &str| LiveSeat {
        user: user(name),
        owner: user(name),
        app: app("two"),
        service: Service::Imap,
        issued_at: Some(NOW),
        service_account: false,
    };
    let seats = [seat("ann"), seat("bob")];
    let falls = async |directive: Directive| {
        let preview = store.preview(&[directive.into()], ADMIN, &seats).await.unwrap();
        assert_eq!((preview.loses.pair_count, preview.gains.pair_count), (0, 0));
        let fall = |fall: &crate::policy::Fall| (fall.seat, fall.refusal.reason());
        preview.falls.iter().map(fall).collect::<Vec<_>>()
    };
    assert_eq!(falls(mail_of_user("bob", "dovecot")).await, [(1, "home_moved")]);
    assert_eq!(falls(mail_of_user("bob", "maildir")).await, [], "there it is already");
    let read = UnitPatch { read_only: Some(Some(true)), ..UnitPatch::default() };
    let read = Directive::Unit(unit("/Sales/Field"), Action::Change(read));
    assert_eq!(falls(read).await, [(1, "rights_lowered")]);
    let read = AppPatch { read_only: Some(true), ..AppPatch::default() };
    let read = Directive::App(app("two"), Action::Make(read));
    assert_eq!(falls(read).await, [(0, "rights_lowered"), (1, "rights_lowered")]);
}

async fn an_exported_home_is_applied_and_a_line_taken_out_of_the_file_is_gone(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [mail_of_user("ann", "dovecot/mail1")]).await.unwrap();
    let text = file::write(&store.export().await.unwrap().0);
    assert!(text.contains("mail = \"dovecot/mail1\""), "{text}");
    // The policy file takes the row over as it is, and a file without the line takes it away.
    let document = file::parse(&text).unwrap();
    store.apply(&document, "policy.toml").await.unwrap();
    assert_eq!(home_of(&store, "ann"), "dovecot/mail1");
    let document = file::parse(&text.replace("mail = \"dovecot/mail1\"\n", "")).unwrap();
    store.apply(&document, "policy.toml").await.unwrap();
    assert_eq!(home_of(&store, "ann"), "default");
}
