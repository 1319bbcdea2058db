//! The kinds of storage.k8s.io/v1.

use super::plain;
use crate::scheme::Resource;
use crate::{default, table, validate};

const STORAGE: &str = "storage.k8s.io";

pub(super) fn storage() -> Vec<Resource> {
    let kind = |kind: &str, plural: &str| plain(STORAGE, kind, plural).cluster();
    vec![
        kind("CSIDriver", "csidrivers")
            .generation()
            .table(table::csi_driver())
            .defaulted(default::storage::driver)
            .unattended("no CSI drivers are called yet: their volumes are not mounted")
            .validated(validate::storage::driver, validate::storage::driver_update),
        kind("CSINode", "csinodes")
            .table(table::csi_node())
            .unattended("no CSI drivers are called yet: what nodes have of them is not looked at")
            .validated(validate::storage::node, validate::storage::node_update),
        plain(STORAGE, "CSIStorageCapacity", "csistoragecapacities")
            .table(table::csi_storage_capacity())
            .defaulted(default::storage::capacity)
            .unattended("no CSI drivers are called yet: the scheduler does not look at their capacities")
            .validated(validate::storage::capacity, validate::storage::capacity_update),
        kind("StorageClass", "storageclasses")
            .short(&["sc"])
            .table(table::storage_class())
            .defaulted(default::storage::class)
            .validated(validate::storage::class, validate::storage::class_update),
        kind("VolumeAttachment", "volumeattachments")
            .status()
            .table(table::volume_attachment())
            .unattended("no attacher acts on VolumeAttachments yet: the volume is not attached")
            .validated(validate::storage::attachment, validate::storage::attachment_update)
            .status_validated(|new, _| validate::storage::attachment_status(new)),
        kind("VolumeAttributesClass", "volumeattributesclasses")
            .short(&["vac"])
            .table(table::volume_attributes_class())
            .unattended("no driver acts on VolumeAttributesClasses yet: volumes keep their attributes")
            .validated(
                validate::storage::attributes_class,
                validate::storage::attributes_class_update,
            ),
    ]
}
