// @azure/identity as it is; see the package for what is asked and reported. Its tokens are kept for the whole program, so
// each ask is a worker of its own.
const { existsSync } = require("node:fs");
const { Worker, isMainThread, parentPort, workerData } = require("node:worker_threads");

const names = { client_id: "clientId", object_id: "objectId", resource_id: "resourceId" };
function credential({ DefaultAzureCredential, ManagedIdentityCredential }, by, id) {
  if (by === "default") return new DefaultAzureCredential();
  return by ? new ManagedIdentityCredential({ [names[by]]: id }) : new ManagedIdentityCredential();
}

const now = () => Number(process.hrtime.bigint()) / 1e9;

async function ask({ way, by, id, resource }) {
  const sdk = require("@azure/identity");
  const begun = now();
  const found = { way, outcome: "token", begun, seconds: 0, words: "" };
  try {
    found.words = (await credential(sdk, by, id).getToken(`${resource}/.default`)).token;
  } catch (error) {
    found.outcome = error.name;
    found.words = error.message;
  }
  found.seconds = now() - begun;
  parentPort.postMessage(found);
}

function once(order) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: order });
    worker.on("message", (found) => console.log(JSON.stringify(found)));
    worker.on("error", reject);
    worker.on("exit", resolve);
  });
}

async function goOn(order, stop) {
  do await once(order);
  while (stop && !existsSync(stop));
}

if (isMainThread) {
  const { resource, stop, ways } = JSON.parse(process.argv[2]);
  Promise.all(Object.entries(ways).map(([way, [by, id]]) => goOn({ way, by, id, resource }, stop)));
} else {
  ask(workerData);
}
