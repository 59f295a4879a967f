/**
 * Hands each request to the user's function; runs inside the function's image, under functions-framework.
 *
 * runtime.json beside this file names module and function, the user's code lies in ../function. A handler of one
 * parameter gets the CloudEvent when the request is one, else the HTTP request (of express); a handler of two gets
 * (request, response) always and answers itself. It may be async. What a handler of one parameter returns is the
 * answer: nothing is 204, a CloudEvent is sent as one (a Broker takes it as the reply), text and buffers go as they
 * are, everything else as JSON.
 */
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { createRequire } = require('node:module');
const { pathToFileURL } = require('node:url');
const functions = require('@google-cloud/functions-framework');

const ROOT = path.join(path.dirname(__dirname), 'function');
const ENTRY = JSON.parse(fs.readFileSync(path.join(__dirname, 'runtime.json'), 'utf8'));
const HEALTH = ['/health/liveness', '/health/readiness'];
const REQUIRED = ['specversion', 'id', 'source', 'type'];
const STRUCTURED = 'application/cloudevents+json';

/** The user's function: an export of that name, or one registered with the user's own functions-framework. */
async function load() {
  process.chdir(ROOT);
  const file = ENTRY.files.map((name) => path.join(ROOT, name)).find((name) => fs.existsSync(name));
  if (file === undefined) throw new Error(`none of ${ENTRY.files.join(', ')} is there`);
  const exported = await import(pathToFileURL(file).href);
  const found = exported[ENTRY.function] ?? exported.default?.[ENTRY.function] ?? registered(file);
  if (typeof found !== 'function') throw new Error(`${path.basename(file)} exports no function ${ENTRY.function}`);
  return found;
}

function registered(file) {
  let testing;
  try {
    testing = createRequire(file)('@google-cloud/functions-framework/testing');
  } catch {
    return undefined; // the function does not use it
  }
  return testing.getFunction(ENTRY.function);
}

const loading = load().catch((error) => {
  console.error(`the function cannot be loaded: ${error.stack ?? error}`);
  process.exit(1);
});

/** The CloudEvent that the request carries, undefined when it carries none; the content type decides. */
function eventOf(request) {
  const contentType = (request.header('content-type') ?? '').split(';')[0].trim().toLowerCase();
  let event;
  if (contentType === STRUCTURED) {
    event = request.body;
  } else if (request.header('ce-specversion') !== undefined) {
    event = binary(request, contentType);
  } else {
    return undefined;
  }
  const missing = REQUIRED.filter((name) => typeof event?.[name] !== 'string' || event[name] === '');
  if (missing.length > 0) throw new NotAnEvent(`not a CloudEvent: ${missing.join(', ')} missing`);
  return event;
}

class NotAnEvent extends Error {}

function binary(request, contentType) {
  const event = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (name.startsWith('ce-')) event[name.slice(3)] = decoded(value);
  }
  if (contentType !== '') event.datacontenttype = request.header('content-type');
  const empty = request.rawBody === undefined || request.rawBody.length === 0;
  return empty ? event : { ...event, data: request.body };
}

function decoded(value) {
  try {
    return decodeURIComponent(value);
  } catch {
    throw new NotAnEvent('not a CloudEvent: a header is not percent-encoded UTF-8');
  }
}

function isEvent(value) {
  return typeof value === 'object' && value !== null && REQUIRED.every((name) => typeof value[name] === 'string');
}

function send(response, result) {
  if (result === undefined || result === null) {
    response.status(204).end();
  } else if (isEvent(result)) {
    response.set('content-type', STRUCTURED).send(JSON.stringify(result));
  } else if (typeof result === 'string' || Buffer.isBuffer(result)) {
    response.send(result);
  } else {
    response.json(result);
  }
}

async function dispatch(request, response) {
  if (request.method === 'GET' && HEALTH.includes(request.path)) {
    response.send('ok');
    return;
  }
  const handler = await loading;
  if (handler.length >= 2) {
    await handler(request, response);
    return;
  }
  let event;
  try {
    event = eventOf(request);
  } catch (error) {
    if (!(error instanceof NotAnEvent)) throw error;
    response.status(400).send(error.message);
    return;
  }
  const result = await handler(event ?? request);
  if (!response.headersSent) send(response, result);
}

functions.http('dispatch', dispatch);
