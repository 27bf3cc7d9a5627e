pub(super) mod put;
