//! "Allow this one here": an app that has knocked is put on a unit's list. Called by `admin`.

use std::time::SystemTime;

use super::{Action, Actor, DOING, Directive, EditError, UnitPatch, Wish};
use crate::model::{ClientId, Place, Service, UnitPath, UnixTime};
use crate::policy::{Access, Setting};
use crate::store::Store;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The app is on the list now.
    Added,
    /// It comes in there already.
    Already,
    /// The service is off there, which is a decision of its own; set here.
    Off(Place),
}

impl Store {
    /// Puts an app on the list that is in force for a unit. A unit that inherits the list gets its own, and one whose own has run
    /// out gets that of the unit above. The new list ends when the one it is made from does.
    ///
    /// The list is read in the turn of the write, with all that is committed: what somebody took off a moment ago stays off.
    pub async fn allow_app(
        &self,
        app: &ClientId,
        unit: &UnitPath,
        service: Service,
        actor: Actor<'_>,
    ) -> Result<Allowed, EditError> {
        let write = self.begin_beside_snapshot(DOING).await?;
        let now = UnixTime::from(SystemTime::now());
        let found = self.read(|directory| directory.effective_for_unit(unit, service, now));
        let mut list = match found.access {
            Access::Any => return Ok(Allowed::Already),
            Access::Off => return Ok(Allowed::Off(found.place)),
            Access::Only(list) if list.contains(app) => return Ok(Allowed::Already),
            Access::Only(list) => list,
        };
        list.push(app.clone());
        let setting = Some(Some(Setting { access: Access::Only(list), until: found.until }));
        let patch = match service {
            Service::Imap => UnitPatch { imap: setting, ..UnitPatch::default() },
            Service::Pop => UnitPatch { pop: setting, ..UnitPatch::default() },
        };
        let wish = Wish::from(Directive::Unit(unit.clone(), Action::Change(patch)));
        self.make(write, &[wish], actor, false).await?;
        Ok(Allowed::Added)
    }
}
