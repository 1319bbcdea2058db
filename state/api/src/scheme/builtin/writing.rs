//! How kinds differ in what a replacement may do and what a deletion answers, as their strategies in Kubernetes have it
//! (`pkg/registry/*/*/strategy.go` and `storage.go`). A kind without a row here has [`Writing::USUAL`].

use crate::scheme::Writing;

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// A replacement of what is absent makes it.
const MAKES: Writing = Writing {
    create_on_update: true,
    ..Writing::USUAL
};
/// A replacement has to say what it replaces.
const EXACT: Writing = Writing {
    unconditional_update: false,
    ..Writing::USUAL
};
/// A deletion answers with what went.
const SHOWS: Writing = Writing {
    returns_deleted: true,
    ..Writing::USUAL
};

/// A deletion leaves dependents, as it did before there was a garbage collector.
const LEAVES: Writing = Writing {
    orphans: true,
    ..Writing::USUAL
};

/// The kinds that differ: group, resource, how.
const ROWS: &[(&str, &str, Writing)] = &[
    ("", "endpoints", MAKES),
    ("", "events", MAKES),
    ("", "limitranges", MAKES),
    ("", "namespaces", SHOWS),
    ("", "persistentvolumeclaims", SHOWS),
    ("", "persistentvolumes", SHOWS),
    ("", "pods", SHOWS),
    ("", "podtemplates", SHOWS),
    ("", "replicationcontrollers", LEAVES),
    ("", "resourcequotas", SHOWS),
    ("", "serviceaccounts", SHOWS),
    (
        "",
        "services",
        Writing {
            create_on_update: true,
            ..SHOWS
        },
    ),
    (ADMISSION, "mutatingadmissionpolicies", EXACT),
    (ADMISSION, "mutatingadmissionpolicybindings", EXACT),
    (ADMISSION, "mutatingwebhookconfigurations", EXACT),
    (ADMISSION, "validatingadmissionpolicies", EXACT),
    (ADMISSION, "validatingadmissionpolicybindings", EXACT),
    (ADMISSION, "validatingwebhookconfigurations", EXACT),
    ("apiextensions.k8s.io", "customresourcedefinitions", EXACT),
    ("apiregistration.k8s.io", "apiservices", EXACT),
    ("batch", "jobs", LEAVES),
    (
        "coordination.k8s.io",
        "leases",
        Writing {
            unconditional_update: false,
            ..MAKES
        },
    ),
    ("events.k8s.io", "events", MAKES),
    ("node.k8s.io", "runtimeclasses", EXACT),
    ("policy", "poddisruptionbudgets", EXACT),
    (RBAC, "clusterrolebindings", MAKES),
    (RBAC, "clusterroles", MAKES),
    (RBAC, "rolebindings", MAKES),
    (RBAC, "roles", MAKES),
    (
        STORAGE,
        "csidrivers",
        Writing {
            unconditional_update: false,
            ..SHOWS
        },
    ),
    (
        STORAGE,
        "csinodes",
        Writing {
            unconditional_update: false,
            ..SHOWS
        },
    ),
    (STORAGE, "csistoragecapacities", EXACT),
    (STORAGE, "storageclasses", SHOWS),
    (
        STORAGE,
        "volumeattachments",
        Writing {
            unconditional_update: false,
            ..SHOWS
        },
    ),
    (STORAGE, "volumeattributesclasses", SHOWS),
];

/// How objects of a built-in resource are written.
pub(super) fn of(group: &str, plural: &str) -> Writing {
    ROWS.iter()
        .find(|(of, resource, _)| (*of, *resource) == (group, plural))
        .map_or(Writing::USUAL, |(_, _, writing)| *writing)
}
