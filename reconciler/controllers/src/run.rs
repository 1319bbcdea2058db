//! Starts everything: the hubs, the controllers that read them, and what wakes which.

use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::config::ControllersConfig;
use crate::drive::{Key, Trigger, drive, queue};
use crate::endpoints::SERVICE_NAME;
use crate::error::Error;
use crate::events::Recorder;
use crate::hub::{Held, Hub, Opening, Seen, ready};
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::namespace::{content, defaults};
use crate::nodes::{lifecycle, orphans};
use crate::scheduler::{Scheduler, Wake};
use crate::{deployment, endpoints, garbage, pods, replicaset};

/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

/// Runs every controller until `shutdown` resolves.
///
/// # Errors
/// [`Error::Metrics`] when the metrics are registered already, [`Error::WatchEnded`] when a watch ends for good.
pub async fn run(config: ControllersConfig, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    let metrics = Metrics::register(&config.metrics)?;
    let mut tasks = JoinSet::new();
    tokio::select! {
        outcome = start(config, metrics, &mut tasks) => outcome?,
        () = shutdown => {}
    }
    tasks.shutdown().await;
    Ok(())
}

/// Fires the controller that an object's owner reference names.
fn fire_owner(trigger: &Trigger, kind: &str, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) {
    if let Some(owner) = pods::controller_of(metadata)
        && owner.kind == kind
    {
        trigger.fire(Key::new(
            metadata.namespace.clone().unwrap_or_default(),
            owner.name.clone(),
        ));
    }
}

/// Fires `trigger` with each change of an object of its own kind.
fn fire_self<K: Held>(opening: &mut Opening<K>, trigger: &Trigger, gone: impl Fn(&Key) + Send + Sync + 'static) {
    let trigger = trigger.clone();
    opening.listen(move |object, _, seen| match seen {
        Seen::Applied => trigger.fire(Key::of(&**object)),
        Seen::Gone => gone(&Key::of(&**object)),
    });
}

async fn start(config: ControllersConfig, metrics: Metrics, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let ControllersConfig {
        client,
        now,
        root_ca_pem,
        node_grace,
        missing_node_grace,
        concurrency,
        ..
    } = config;
    let cluster = Cluster::new(client.clone());
    let recorder = Recorder::start(cluster.clone(), now.clone());
    let (stop, stopped) = watch::channel(false);

    let mut deployments = Opening::<Deployment>::new(|_| {});
    let mut sets = Opening::<ReplicaSet>::new(|_| {});
    let mut all_pods = Opening::<Pod>::new(pods::slim);
    let mut services = Opening::<Service>::new(|_| {});
    let mut slices = Opening::<EndpointSlice>::new(|_| {});
    let mut legacy = Opening::<Endpoints>::new(|_| {});
    let mut nodes = Opening::<Node>::new(slim_node);
    let mut leases = Opening::<Lease>::new(|_| {});
    let mut namespaces = Opening::<Namespace>::new(|_| {});
    let mut accounts = Opening::<ServiceAccount>::new(|_| {});
    let mut config_maps = Opening::<ConfigMap>::new(|_| {});

    let (deployment_trigger, deployment_queue) = queue(metrics.of("deployment"));
    let (set_trigger, set_queue) = queue(metrics.of("replicaset"));
    let (service_trigger, service_queue) = queue(metrics.of("endpointslice"));
    let (node_trigger, node_queue) = queue(metrics.of("node-lifecycle"));
    let (content_trigger, content_queue) = queue(metrics.of("namespace"));
    let (defaults_trigger, defaults_queue) = queue(metrics.of("namespace-defaults"));
    let (kinds, kinds_found) = watch::channel(Kinds::default());

    let on_deployment = Arc::new(deployment::Controller::new(
        cluster.clone(),
        now.clone(),
        recorder.clone(),
        deployments.hub(),
        sets.hub(),
        all_pods.hub(),
    ));
    let on_set = Arc::new(replicaset::Controller::new(
        cluster.clone(),
        now.clone(),
        recorder.clone(),
        sets.hub(),
        all_pods.hub(),
    ));
    let on_service = Arc::new(endpoints::Controller::new(
        cluster.clone(),
        all_pods.hub(),
        slices.hub(),
        legacy.hub(),
    ));
    let on_node = Arc::new(lifecycle::Controller::new(
        cluster.clone(),
        now.clone(),
        recorder.clone(),
        all_pods.hub(),
        node_grace,
    ));
    let on_content = Arc::new(content::Controller::new(cluster.clone(), now.clone(), kinds_found));
    let on_defaults = Arc::new(defaults::Controller::new(
        cluster.clone(),
        accounts.hub(),
        config_maps.hub(),
        root_ca_pem.clone(),
    ));

    // Deployments look again when a set of theirs changes; an orphaned set may be anybody's.
    fire_self(&mut deployments, &deployment_trigger, |_| {});
    let (trigger, hub) = (deployment_trigger.clone(), deployments.hub());
    sets.listen(move |set, previous, _| {
        fire_owner(&trigger, "Deployment", &set.metadata);
        if let Some(previous) = previous {
            fire_owner(&trigger, "Deployment", &previous.metadata);
        }
        if pods::controller_of(&set.metadata).is_none() {
            for deployment in hub.in_namespace(&set.namespace().unwrap_or_default()) {
                trigger.fire(Key::of(&*deployment));
            }
        }
    });
    // A Deployment that recreates waits for the last old pod to be gone.
    let (trigger, set_hub) = (deployment_trigger.clone(), sets.hub());
    all_pods.listen(move |pod, _, seen| {
        if (seen == Seen::Gone || pods::is_terminal(pod))
            && let Some(owner) = pods::controller_of(&pod.metadata)
            && let Some(set) = set_hub.get(pod.namespace().as_deref(), &owner.name)
        {
            fire_owner(&trigger, "Deployment", &set.metadata);
        }
    });

    let controller = on_set.clone();
    fire_self(&mut sets, &set_trigger, move |key| controller.gone(key));
    let (trigger, hub) = (set_trigger.clone(), sets.hub());
    all_pods.listen(move |pod, previous, _| {
        fire_owner(&trigger, "ReplicaSet", &pod.metadata);
        if let Some(previous) = previous {
            fire_owner(&trigger, "ReplicaSet", &previous.metadata);
        }
        if pods::controller_of(&pod.metadata).is_none() && !pod.labels().is_empty() {
            for set in hub.in_namespace(&pod.namespace().unwrap_or_default()) {
                trigger.fire(Key::of(&*set));
            }
        }
    });

    let controller = on_service.clone();
    fire_self(&mut services, &service_trigger, move |key| controller.gone(key));
    let (trigger, hub) = (service_trigger.clone(), services.hub());
    all_pods.listen(move |pod, previous, _| {
        for service in hub.in_namespace(&pod.namespace().unwrap_or_default()) {
            let selected = endpoints::selects(&service, pod.labels())
                || previous.is_some_and(|previous| endpoints::selects(&service, previous.labels()));
            if selected {
                trigger.fire(Key::of(&*service));
            }
        }
    });
    let trigger = service_trigger.clone();
    slices.listen(move |slice, _, _| {
        if let Some(service) = slice.labels().get(SERVICE_NAME) {
            trigger.fire(Key::new(slice.namespace().unwrap_or_default(), service.clone()));
        }
    });
    let trigger = service_trigger.clone();
    legacy.listen(move |object, _, _| trigger.fire(Key::of(&**object)));

    let controller = on_node.clone();
    fire_self(&mut nodes, &node_trigger, move |key| controller.gone(&key.name));
    let controller = on_node.clone();
    let trigger = node_trigger.clone();
    leases.listen(move |lease, previous, seen| {
        let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        if seen == Seen::Applied && previous.is_none_or(|previous| renewed(previous) != renewed(lease)) {
            controller.reported(&lease.name_any());
            if previous.is_none() {
                trigger.fire(Key::new("", lease.name_any()));
            }
        }
    });
    let controller = on_node.clone();
    nodes.listen(move |node, previous, seen| {
        // The agent also reports by its status.
        let beat = |node: &Node| {
            let conditions = node
                .status
                .as_ref()
                .and_then(|status| status.conditions.clone())
                .unwrap_or_default();
            conditions
                .into_iter()
                .map(|condition| condition.last_heartbeat_time)
                .max()
        };
        if seen == Seen::Applied && previous.is_some_and(|previous| beat(previous) != beat(node)) {
            controller.reported(&node.name_any());
        }
    });
    let (trigger, hub) = (node_trigger.clone(), nodes.hub());
    all_pods.listen(move |pod, previous, _| {
        let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let Some(node) = node_of(pod) else { return };
        if previous.is_some_and(|previous| node_of(previous).is_some()) {
            return;
        }
        let evicts = hub.get(None, &node).is_some_and(|node| {
            let taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default();
            taints.iter().any(|taint| taint.effect == "NoExecute")
        });
        if evicts {
            trigger.fire(Key::new("", node));
        }
    });

    let orphaned = Arc::new(Notify::new());
    let wake = orphaned.clone();
    nodes.listen(move |_, _, seen| {
        if seen == Seen::Gone {
            wake.notify_one();
        }
    });
    let (wake, hub) = (orphaned.clone(), nodes.hub());
    all_pods.listen(move |pod, _, _| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if node.is_some_and(|node| hub.get(None, node).is_none()) {
            wake.notify_one();
        }
    });

    fire_self(&mut namespaces, &content_trigger, |_| {});
    fire_self(&mut namespaces, &defaults_trigger, |_| {});
    let trigger = defaults_trigger.clone();
    accounts.listen(move |account, _, seen| {
        if seen == Seen::Gone {
            trigger.fire(Key::new("", account.namespace().unwrap_or_default()));
        }
    });
    let trigger = defaults_trigger.clone();
    config_maps.listen(move |map, _, _| trigger.fire(Key::new("", map.namespace().unwrap_or_default())));

    let wake = Arc::new(Wake::default());
    let waker = wake.clone();
    all_pods.listen(move |pod, previous, seen| waker.pod(pod, previous, seen));
    let waker = wake.clone();
    nodes.listen(move |node, previous, seen| {
        // A heartbeat alone helps no pod.
        let has = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
        let same = previous.is_some_and(|previous| {
            previous.spec == node.spec && previous.metadata.labels == node.metadata.labels && has(previous) == has(node)
        });
        if seen == Seen::Gone || !same {
            waker.node();
        }
    });

    let scheduler = Scheduler {
        cluster: cluster.clone(),
        now: now.clone(),
        recorder,
        pods: all_pods.hub(),
        nodes: nodes.hub(),
        metrics: metrics.of("scheduler"),
        wake,
    };
    let lost = orphans::Controller {
        cluster: cluster.clone(),
        now,
        pods: all_pods.hub(),
        nodes: nodes.hub(),
        grace: missing_node_grace,
        metrics: metrics.of("pod-gc"),
    };

    let hubs = Hubs {
        deployments: deployments.hub(),
        sets: sets.hub(),
        pods: all_pods.hub(),
        services: services.hub(),
        slices: slices.hub(),
        endpoints: legacy.hub(),
        nodes: nodes.hub(),
        namespaces: namespaces.hub(),
        accounts: accounts.hub(),
        config_maps: config_maps.hub(),
    };
    let everywhere = || watcher::Config::default().any_semantic();
    let named = |name: &str| everywhere().fields(&format!("metadata.name={name}"));
    tasks.spawn(deployments.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(sets.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(all_pods.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(services.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(slices.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(legacy.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(nodes.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(leases.run(Api::namespaced(client.clone(), LEASES), everywhere()));
    tasks.spawn(namespaces.run(Api::all(client.clone()), everywhere()));
    tasks.spawn(accounts.run(Api::all(client.clone()), named(defaults::ACCOUNT)));
    tasks.spawn(config_maps.run(Api::all(client), named(defaults::ROOT_CA)));
    hubs.ready().await?;

    tasks.spawn(drive(
        "deployment",
        hubs.deployments,
        deployment_queue,
        concurrency,
        stopped.clone(),
        on_deployment.reconcile(),
    ));
    tasks.spawn(drive(
        "replicaset",
        hubs.sets,
        set_queue,
        concurrency,
        stopped.clone(),
        on_set.reconcile(),
    ));
    tasks.spawn(drive(
        "endpointslice",
        hubs.services,
        service_queue,
        concurrency,
        stopped.clone(),
        on_service.reconcile(),
    ));
    tasks.spawn(drive(
        "node-lifecycle",
        hubs.nodes,
        node_queue,
        concurrency,
        stopped.clone(),
        on_node.reconcile(),
    ));
    let spaces = hubs.namespaces.clone();
    tasks.spawn(drive(
        "namespace",
        spaces.clone(),
        content_queue,
        4,
        stopped.clone(),
        on_content.reconcile(),
    ));
    tasks.spawn(drive(
        "namespace-defaults",
        spaces.clone(),
        defaults_queue,
        4,
        stopped,
        on_defaults.reconcile(),
    ));
    tasks.spawn(lost.run(orphaned));
    tasks.spawn(scheduler.run());
    let gone_from = move |namespace: &str| {
        let going = spaces
            .get(None, namespace)
            .is_some_and(|space| space.metadata.deletion_timestamp.is_some());
        if going {
            content_trigger.fire(Key::new("", namespace));
        }
    };
    tasks.spawn(garbage::run(
        cluster,
        kinds,
        Box::new(gone_from),
        metrics.of("garbage-collector"),
    ));
    // The controllers run until the caller stops waiting; then the sender goes, and with it the drivers.
    stop.closed().await;
    Ok(())
}

/// The hubs that must be full before anything is decided.
struct Hubs {
    deployments: Arc<Hub<Deployment>>,
    sets: Arc<Hub<ReplicaSet>>,
    pods: Arc<Hub<Pod>>,
    services: Arc<Hub<Service>>,
    slices: Arc<Hub<EndpointSlice>>,
    endpoints: Arc<Hub<Endpoints>>,
    nodes: Arc<Hub<Node>>,
    namespaces: Arc<Hub<Namespace>>,
    accounts: Arc<Hub<ServiceAccount>>,
    config_maps: Arc<Hub<ConfigMap>>,
}

impl Hubs {
    async fn ready(&self) -> Result<(), Error> {
        ready(&self.deployments).await?;
        ready(&self.sets).await?;
        ready(&self.pods).await?;
        ready(&self.services).await?;
        ready(&self.slices).await?;
        ready(&self.endpoints).await?;
        ready(&self.nodes).await?;
        ready(&self.namespaces).await?;
        ready(&self.accounts).await?;
        ready(&self.config_maps).await
    }
}

/// Removes from a node what no controller reads.
fn slim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
        status.node_info = None;
    }
}
