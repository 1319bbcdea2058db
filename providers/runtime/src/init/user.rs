//! Who a container's processes are: the image's user by name or number, the container's overrides.

use std::collections::BTreeSet;

use crate::spec::{SandboxSpec, Security};

/// A resolved user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups, without `gid`.
    pub(crate) groups: Vec<u32>,
    /// The home directory that /etc/passwd says.
    pub(crate) home: Option<String>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account {
            name,
            uid,
            gid,
            home: fields.nth(1).unwrap_or_default(),
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// Resolves a user; `passwd` and `group` are the contents of the image's files, empty where it has none.
pub(crate) fn resolve(image_user: &str, security: &Security, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match image_user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (image_user, None),
    };
    let account = match (security.run_as_user, name.parse::<u32>()) {
        (Some(uid), _) | (None, Ok(uid)) => accounts(passwd).find(|account| account.uid == uid).ok_or(uid),
        (None, Err(_)) if name.is_empty() => accounts(passwd).find(|account| account.uid == 0).ok_or(0),
        (None, Err(_)) => Ok(accounts(passwd)
            .find(|account| account.name == name)
            .ok_or_else(|| format!("unable to find user {name}: no matching entries in passwd file"))?),
    };
    let (uid, mut gid, home, login) = match &account {
        Ok(account) => (
            account.uid,
            account.gid,
            Some(account.home.to_owned()),
            Some(account.name),
        ),
        Err(uid) => (*uid, 0, None, None),
    };
    let mut further: BTreeSet<u32> = security.supplemental_groups.iter().copied().collect();
    if let (Some(wanted), None) = (group_name, security.run_as_user) {
        gid = match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => groups(group)
                .find(|(name, ..)| *name == wanted)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| format!("unable to find group {wanted}: no matching entries in group file"))?,
        };
    } else if let Some(login) = login.filter(|_| !security.strict_groups) {
        let member = |members: &str| members.split(',').any(|member| member == login);
        further.extend(
            groups(group)
                .filter(|(_, _, members)| member(members))
                .map(|(_, gid, _)| gid),
        );
    }
    if let Some(wanted) = security.run_as_group {
        gid = wanted;
    }
    further.remove(&gid);
    let home = home.filter(|home| !home.is_empty());
    Ok(User {
        uid,
        gid,
        groups: further.into_iter().collect(),
        home,
    })
}

/// Refuses a container that must not run as root but would, or of which that cannot be told before it runs.
pub(crate) fn check_non_root(
    sandbox: &SandboxSpec,
    container: &str,
    image_user: &str,
    security: &Security,
) -> Result<(), String> {
    if !security.run_as_non_root {
        return Ok(());
    }
    let place = format!(
        "(pod: \"{}_{}({})\", container: {container})",
        sandbox.name, sandbox.namespace, sandbox.id
    );
    let name = image_user.split(':').next().unwrap_or_default();
    match (security.run_as_user, name.parse::<u32>()) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Ok(0)) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, Ok(_)) => Ok(()),
        (None, Err(_)) if name.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        (None, Err(_)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:www:/var/www:/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlogs:x:44:web,other\n";

    fn resolved(user: &str, security: &Security) -> User {
        resolve(user, security, PASSWD, GROUP).unwrap()
    }

    #[test]
    fn a_name_brings_its_group_further_groups_and_home() {
        let user = resolved("web", &Security::default());
        assert_eq!(
            user,
            User {
                uid: 33,
                gid: 33,
                groups: vec![44],
                home: Some("/var/www".to_owned())
            }
        );
    }

    #[test]
    fn an_explicit_group_is_the_only_one() {
        let user = resolved("web:logs", &Security::default());
        assert_eq!((user.gid, user.groups), (44, vec![]));
    }

    #[test]
    fn strict_groups_are_those_of_the_spec_alone() {
        let security = Security {
            strict_groups: true,
            supplemental_groups: vec![7],
            ..Security::default()
        };
        let user = resolved("web", &security);
        assert_eq!((user.gid, user.groups), (33, vec![7]));
    }

    #[test]
    fn a_number_needs_no_account() {
        let user = resolved("1000", &Security::default());
        assert_eq!(
            user,
            User {
                uid: 1000,
                ..User::default()
            }
        );
        assert_eq!(resolve("", &Security::default(), "", "").unwrap(), User::default());
    }

    #[test]
    fn the_container_overrides_the_image() {
        let security = Security {
            run_as_user: Some(5),
            run_as_group: Some(6),
            supplemental_groups: vec![7],
            ..Security::default()
        };
        let user = resolved("web:logs", &security);
        assert_eq!((user.uid, user.gid, user.groups), (5, 6, vec![7]));
    }

    #[test]
    fn an_unknown_name_is_told() {
        assert!(
            resolve("ghost", &Security::default(), PASSWD, GROUP)
                .unwrap_err()
                .contains("ghost")
        );
    }

    #[test]
    fn non_root_refuses_what_is_or_may_be_root() {
        let sandbox = SandboxSpec {
            id: "u".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            ..SandboxSpec::default()
        };
        let security = Security {
            run_as_non_root: true,
            ..Security::default()
        };
        let check = |user: &str| check_non_root(&sandbox, "app", user, &security);
        assert_eq!(
            check("").unwrap_err(),
            "container has runAsNonRoot and image will run as root (pod: \"web_default(u)\", container: app)"
        );
        assert!(check("web").unwrap_err().contains("non-numeric user (web)"));
        assert!(check("1000:0").is_ok());
    }
}
