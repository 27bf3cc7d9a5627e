#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn written(threads: &Threads) -> String {
    let mut text = String::new();
    for token in threads.tokens() {
        let space = text.ends_with(|c: char| c.is_ascii_digit());
        match token {
            ThreadToken::Open => text += if space { " (" } else { "(" },
            ThreadToken::Message(at) if space => text += &format!(" {}", at + 1),
            ThreadToken::Message(at) => text += &(at + 1).to_string(),
            ThreadToken::Close => text += ")",
        }
    }
    text
}

/// Date, subject (0: none), whether it is a reply, ID (0: none), references.
type Row<'a> = (i64, u32, bool, u32, &'a [u32]);

fn threadable((date, subject, is_reply, id, references): Row<'_>) -> Threadable {
    Threadable {
        date,
        subject: (subject > 0).then_some(subject),
        is_reply,
        id: (id > 0).then_some(id),
        references: references.to_vec(),
    }
}

fn rows(rows: &[Row<'_>]) -> Vec<Threadable> {
    rows.iter().map(|row| threadable(*row)).collect()
}

#[test]
fn replies_stand_below_what_they_answer() {
    let cases: [(&str, &[Row<'_>], &str); 19] = [
        ("nothing", &[], ""),
        ("by date", &[(2, 0, false, 1, &[]), (1, 0, false, 2, &[])], "(2)(1)"),
        ("a reply", &[(1, 1, false, 1, &[]), (2, 1, true, 2, &[1])], "(1 2)"),
        ("the reply came first", &[(2, 1, true, 2, &[1]), (1, 1, false, 1, &[])], "(2 1)"),
        (
            "two replies and one to the second",
            &[(1, 1, false, 1, &[]), (2, 1, true, 2, &[1]), (3, 1, true, 3, &[1]), (4, 1, true, 4, &[1, 3])],
            "(1 (2)(3 4))",
        ),
        ("siblings of one that is not there", &[(1, 1, true, 2, &[1]), (2, 2, true, 3, &[1])], "((1)(2))"),
        ("the only child of one that is not there", &[(1, 1, true, 2, &[1])], "(1)"),
        ("absent ones in the middle", &[(1, 1, false, 1, &[]), (2, 1, true, 9, &[1, 5, 6])], "(1 2)"),
        (
            "absent ones at the top, one below another",
            &[(1, 1, true, 8, &[1, 2]), (2, 2, true, 9, &[1, 3])],
            "((1)(2))",
        ),
        ("a loop is not closed", &[(1, 0, false, 1, &[2]), (2, 0, false, 2, &[1])], "(2 1)"),
        ("itself is no parent", &[(1, 0, false, 1, &[1])], "(1)"),
        (
            "of two with one ID the first has it",
            &[(1, 1, false, 1, &[]), (2, 2, false, 1, &[]), (3, 3, true, 2, &[1])],
            "(1 3)(2)",
        ),
        (
            "references that were cut short are set right",
            &[(3, 0, false, 3, &[1, 2]), (2, 0, false, 2, &[]), (1, 0, false, 1, &[])],
            "(3)(2 1)",
        ),
        ("one subject: the reply below", &[(2, 1, true, 0, &[]), (1, 1, false, 0, &[])], "(2 1)"),
        ("one subject: two replies", &[(2, 1, true, 0, &[]), (1, 1, true, 0, &[])], "((2)(1))"),
        ("one subject: two that are none", &[(1, 1, false, 0, &[]), (2, 1, false, 0, &[])], "((1)(2))"),
        (
            "one subject: into a family",
            &[(1, 1, true, 2, &[1]), (2, 1, true, 3, &[1]), (0, 1, false, 0, &[])],
            "((3)(1)(2))",
        ),
        (
            "one subject: two families",
            &[(1, 1, true, 2, &[1]), (2, 1, true, 3, &[1]), (3, 1, true, 5, &[4]), (4, 1, true, 6, &[4])],
            "((1)(2)(3)(4))",
        ),
        ("no subject is no bond", &[(1, 0, true, 0, &[]), (2, 0, true, 0, &[])], "(1)(2)"),
    ];
    for (name, given, expected) in cases {
        assert_eq!(written(&by_references(&rows(given), 10)), expected, "{name}");
    }
}

#[test]
fn ordered_subject_has_children_but_no_grandchildren() {
    let given = rows(&[
        (5, 1, false, 0, &[]),
        (1, 2, false, 0, &[]),
        (7, 1, true, 0, &[]),
        (6, 1, true, 0, &[]),
        (2, 3, false, 0, &[]),
        (3, 3, true, 0, &[]),
        (2, 0, true, 0, &[]),
    ]);
    assert_eq!(written(&by_subject(&given)), "(2)(5 6)(7)(1 (4)(3))");
    assert_eq!(written(&by_subject(&[])), "");
}

/// RFC 5256 section 3 as its words stand, with as many walks over everything as they ask for.
mod book {
    use super::*;

    #[derive(Clone, Default)]
    struct Node {
        message: Option<usize>,
        parent: Option<usize>,
        children: Vec<usize>,
    }

    pub(super) struct Book<'a> {
        messages: &'a [Threadable],
        nodes: Vec<Node>,
    }

    impl<'a> Book<'a> {
        pub(super) fn references(messages: &'a [Threadable], ids: u32) -> String {
            let mut nodes = Vec::new();
            for at in 0..messages.len() {
                nodes.push(Node { message: Some(at), ..Node::default() });
            }
            nodes.extend((0..ids).map(|_| Node::default()));
            let mut book = Book { messages, nodes };
            for (at, message) in messages.iter().enumerate() {
                let path: Vec<usize> = message.references.iter().map(|id| book.holder(*id)).collect();
                for pair in path.windows(2) {
                    if book.nodes[pair[1]].parent.is_none() {
                        book.adopt(pair[0], pair[1]);
                    }
                }
                if let Some(parent) = book.nodes[at].parent.take() {
                    book.nodes[parent].children.retain(|child| *child != at);
                }
                if let Some(last) = path.last() {
                    book.adopt(*last, at);
                }
            }
            let mut roots: Vec<usize> = (0..book.nodes.len()).filter(|n| book.nodes[*n].parent.is_none()).collect();
            roots = roots.into_iter().flat_map(|root| book.prune(root, true)).collect();
            for root in &roots {
                if book.nodes[*root].message.is_none() {
                    book.sort_children(*root);
                }
            }
            roots.sort_by_key(|root| book.date(*root));
            book.subjects(&mut roots);
            roots.iter().for_each(|root| book.sort_below(*root));
            roots.sort_by_key(|root| book.date(*root));
            roots.iter().map(|root| format!("({})", book.write(*root))).collect()
        }

        fn holder(&self, id: u32) -> usize {
            let there = self.messages.iter().position(|message| message.id == Some(id));
            there.unwrap_or(self.messages.len() + id as usize)
        }

        fn adopt(&mut self, parent: usize, child: usize) {
            let mut above = Some(parent);
            while let Some(node) = above {
                if node == child {
                    return;
                }
                above = self.nodes[node].parent;
            }
            self.nodes[child].parent = Some(parent);
            self.nodes[parent].children.push(child);
        }

        /// What stands in the place of a node.
        fn prune(&mut self, node: usize, at_top: bool) -> Vec<usize> {
            let children = std::mem::take(&mut self.nodes[node].children);
            let children: Vec<usize> = children.into_iter().flat_map(|child| self.prune(child, false)).collect();
            if self.nodes[node].message.is_none() && (!at_top || children.len() < 2) {
                return children;
            }
            self.nodes[node].children = children;
            vec![node]
        }

        fn standing_for(&self, node: usize) -> usize {
            self.nodes[node].message.unwrap_or_else(|| self.nodes[self.nodes[node].children[0]].message.unwrap())
        }

        fn date(&self, node: usize) -> (i64, usize) {
            let message = self.standing_for(node);
            (self.messages[message].date, message)
        }

        fn is_reply(&self, node: usize) -> bool {
            self.nodes[node].message.is_some_and(|at| self.messages[at].is_reply)
        }

        fn is_dummy(&self, node: usize) -> bool {
            self.nodes[node].message.is_none()
        }

        fn sort_children(&mut self, node: usize) {
            let mut children = std::mem::take(&mut self.nodes[node].children);
            children.sort_by_key(|child| self.date(*child));
            self.nodes[node].children = children;
        }

        fn sort_below(&mut self, node: usize) {
            for child in self.nodes[node].children.clone() {
                self.sort_below(child);
            }
            self.sort_children(node);
        }

        fn subjects(&mut self, roots: &mut Vec<usize>) {
            let mut table: Vec<(u32, usize)> = Vec::new();
            for root in roots.iter() {
                let Some(subject) = self.messages[self.standing_for(*root)].subject else { continue };
                match table.iter_mut().find(|(known, _)| *known == subject) {
                    None => table.push((subject, *root)),
                    Some((_, held)) => {
                        if !self.is_dummy(*held)
                            && (self.is_dummy(*root) || (self.is_reply(*held) && !self.is_reply(*root)))
                        {
                            *held = *root;
                        }
                    }
                }
            }
            for root in roots.clone() {
                let Some(subject) = self.messages[self.standing_for(root)].subject else { continue };
                let Some(entry) = table.iter_mut().find(|(known, _)| *known == subject) else { continue };
                let held = entry.1;
                if held == root {
                    continue;
                }
                roots.retain(|other| *other != root);
                match (self.is_dummy(held), self.is_dummy(root)) {
                    (true, true) => {
                        let children = std::mem::take(&mut self.nodes[root].children);
                        self.nodes[held].children.extend(children);
                    }
                    (true, false) => self.nodes[held].children.push(root),
                    (false, _) if self.is_reply(root) && !self.is_reply(held) => {
                        self.nodes[held].children.push(root);
                    }
                    _ => {
                        self.nodes.push(Node { children: vec![held, root], ..Node::default() });
                        entry.1 = self.nodes.len() - 1;
                        roots.retain(|other| *other != held);
                        roots.push(entry.1);
                    }
                }
            }
        }

        fn write(&self, node: usize) -> String {
            let mut text = self.nodes[node].message.map(|at| (at + 1).to_string()).unwrap_or_default();
            match self.nodes[node].children.as_slice() {
                [] => {}
                [only] => text += &format!(" {}", self.write(*only)),
                children => {
                    text += if text.is_empty() { "" } else { " " };
                    children.iter().for_each(|child| text += &format!("({})", self.write(*child)));
                }
            }
            text
        }
    }
}

fn any_message() -> impl Strategy<Value = Threadable> {
    let references = proptest::collection::vec(0..10_u32, 0..5);
    (0..6_i64, proptest::option::of(0..4_u32), any::<bool>(), proptest::option::of(0..10_u32), references).prop_map(
        |(date, subject, is_reply, id, references)| Threadable { date, subject, is_reply, id, references },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn threads_are_those_of_the_rfc_s_own_words(messages in proptest::collection::vec(any_message(), 0..9)) {
        prop_assert_eq!(written(&by_references(&messages, 10)), book::Book::references(&messages, 10));
    }

    #[test]
    fn every_message_is_in_one_thread(messages in proptest::collection::vec(any_message(), 0..30)) {
        for threads in [by_subject(&messages), by_references(&messages, 10)] {
            let mut seen: Vec<u32> = threads
                .tokens()
                .filter_map(|token| match token { ThreadToken::Message(at) => Some(at), _ => None })
                .collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..count(&messages)).collect::<Vec<_>>());
        }
    }
}
