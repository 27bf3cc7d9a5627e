//! The files of a folder's messages, as its directories list them: in one buffer, in order of delivery, which tells what
//! is new and in which order it came, and finds each known message by going through both side by side. Called by `scan`.

use rustix::fs::FileType;

use super::{
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    scan::Found,
    state::State,
};

/// What the directories hold: for each message one file.
#[derive(Default)]
pub(super) struct Files {
    names: Vec<u8>,
    /// In order of delivery.
    all: Vec<Entry>,
}

/// One file. There may be millions.
#[derive(Clone, Copy)]
struct Entry {
    seconds: u64,
    at: u32,
    length: u8,
    /// Bytes of the name that identify the message.
    base: u8,
    place: Place,
}

impl Files {
    /// Lists `new` first: a message moved to `cur` meanwhile is then listed twice rather than never. Of two files of one
    /// message the one in `cur` counts, then the one with more flags.
    pub(super) fn list(dir: &Dir) -> Result<Self, MailError> {
        let mut files = Self::default();
        for place in [Place::New, Place::Cur] {
            let mut unsure = Vec::new();
            dir.each_in(place.dir().as_bytes(), |name, kind| match kind {
                FileType::RegularFile => files.add(place, name),
                // A file system that does not tell.
                FileType::Unknown => unsure.push(name.to_vec()),
                _ => {}
            })?;
            if !unsure.is_empty() {
                let inside = dir.sub(place.dir().as_bytes())?;
                for name in unsure {
                    if inside.is_file(&name)? {
                        files.add(place, &name);
                    }
                }
            }
        }
        let Self { names, all } = &mut files;
        all.sort_unstable_by(|a, b| {
            let bases = || a.base(names).cmp(b.base(names));
            a.seconds.cmp(&b.seconds).then_with(bases).then_with(|| (a.place, a.length).cmp(&(b.place, b.length)))
        });
        all.dedup_by(|next, kept| {
            let same = next.seconds == kept.seconds && next.base(names) == kept.base(names);
            if same {
                *kept = *next;
            }
            same
        });
        Ok(files)
    }

    fn add(&mut self, place: Place, name: &[u8]) {
        let Ok(at) = u32::try_from(self.names.len()) else { return };
        if !filename::is_message(name) {
            return;
        }
        let (seconds, base) = filename::order(name);
        let (Ok(length), Ok(base)) = (u8::try_from(name.len()), u8::try_from(base.len())) else { return };
        self.names.extend_from_slice(name);
        self.all.push(Entry { seconds, at, length, base, place });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them, in order of delivery.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &[u8])> {
        self.all.iter().map(|entry| (entry.place, entry.name(&self.names)))
    }

    /// The file of the message that a name is one of.
    pub(super) fn find(&self, name: &[u8]) -> Option<(Place, &[u8])> {
        let (seconds, base) = filename::order(name);
        let order = |e: &Entry| e.seconds.cmp(&seconds).then_with(|| e.base(&self.names).cmp(base));
        let entry = self.all.get(self.all.binary_search_by(order).ok()?)?;
        Some((entry.place, entry.name(&self.names)))
    }

    /// Compares the files with what is known.
    pub(super) fn compare(&self, state: &State) -> Found {
        let mut known: Vec<_> = state.messages.iter().map(|m| (filename::order(state.name(m)), m)).collect();
        // Next to nothing to do: UIDs are given in this order.
        known.sort_by_key(|(order, _)| *order);
        let mut found = Found::default();
        let mut files = self.all.iter().peekable();
        let fresh = |file: &Entry| (file.place, file.name(&self.names).to_vec());
        for (order, message) in known {
            let before = |file: &&Entry| (file.seconds, file.base(&self.names)) < order;
            while let Some(file) = files.next_if(before) {
                found.fresh.push(fresh(file));
            }
            let name = state.name(message);
            match files.next_if(|file| (file.seconds, file.base(&self.names)) == order) {
                Some(file) if file.place == message.place && file.name(&self.names) == name => {}
                Some(file) => found.renamed.push((message.uid, file.place, file.name(&self.names).to_vec())),
                None => found.missing.push((message.uid, message.place, name.to_vec())),
            }
        }
        found.fresh.extend(files.map(fresh));
        found
    }
}

impl Entry {
    fn name<'n>(&self, names: &'n [u8]) -> &'n [u8] {
        let at = self.at as usize;
        names.get(at..at + usize::from(self.length)).unwrap_or_default()
    }

    fn base<'n>(&self, names: &'n [u8]) -> &'n [u8] {
        let at = self.at as usize;
        names.get(at..at + usize::from(self.base)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn files(new: &[&str], cur: &[&str]) -> Files {
        let root = tempfile::tempdir().unwrap();
        for (sub, names) in [("new", new), ("cur", cur)] {
            std::fs::create_dir(root.path().join(sub)).unwrap();
            for name in names {
                std::fs::write(root.path().join(sub).join(name), "x").unwrap();
            }
        }
        std::fs::create_dir(root.path().join("cur/7.dir")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("cur/8.link")).unwrap();
        Files::list(&Dir::root(root.path(), None).unwrap()).unwrap()
    }

    fn text(list: &[(u32, Place, Vec<u8>)]) -> Vec<(u32, Place, String)> {
        list.iter().map(|(uid, place, name)| (*uid, *place, String::from_utf8(name.clone()).unwrap())).collect()
    }

    #[test]
    fn files_are_in_order_of_delivery_and_of_two_of_one_message_the_one_in_cur_counts() {
        let files = files(&["10.b", "9.a", "2.c,S=1"], &["10.a:2,S", "odd", "9.a:2,", "10.a:2,FS", ".hidden"]);
        let names: Vec<_> = files.iter().map(|(place, name)| (place, String::from_utf8_lossy(name))).collect();
        let expected = [
            (Place::New, "2.c,S=1"),
            (Place::Cur, "9.a:2,"),
            (Place::Cur, "10.a:2,FS"),
            (Place::New, "10.b"),
            (Place::Cur, "odd"),
        ];
        assert_eq!(names, expected.map(|(place, name)| (place, name.into())));
        assert_eq!(files.find(b"10.a:2,other"), Some((Place::Cur, b"10.a:2,FS".as_slice())));
        assert_eq!(files.find(b"10.c"), None);
    }

    #[test]
    fn what_is_known_is_found_again_in_whatever_order_it_became_known() {
        let mut state = State::empty(1);
        // UIDs do not follow the names: the first came late, with an old name.
        for (uid, name) in (1..).zip(["9.x,S=1,W=1", "3.gone,S=1,W=1:2,", "2.y,S=1,W=1:2,", "9.w,S=1,W=1:2,"]) {
            let place = if name.contains(':') { Place::Cur } else { Place::New };
            state.list(uid, place, name.as_bytes(), 0);
        }
        let new = ["1.fresh"];
        let cur = ["2.y,S=1,W=1:2,S", "9.w,S=1,W=1:2,", "9.wx", "9.x,S=1,W=1:2,"];
        let found = files(&new, &cur).compare(&state);
        let renamed = [(3, Place::Cur, "2.y,S=1,W=1:2,S".to_owned()), (1, Place::Cur, "9.x,S=1,W=1:2,".to_owned())];
        assert_eq!(text(&found.renamed), renamed);
        assert_eq!(text(&found.missing), [(2, Place::Cur, "3.gone,S=1,W=1:2,".to_owned())]);
        assert_eq!(found.fresh, [(Place::New, b"1.fresh".to_vec()), (Place::Cur, b"9.wx".to_vec())]);
    }
}
