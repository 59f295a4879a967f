/**
 * Hands each request to the user's function; runs inside the function's image, on the server of functions-framework.
 *
 * runtime.json beside this file names module and function, the user's code lies in ../function. docs/functions.md is
 * the contract. In short: `handler(event)` or `handler(event, context)`, where the event is the CloudEvent when the
 * request is one, else the HTTP request (of express); any other handler of two parameters gets (request, response) and
 * answers itself. What a handler returns is the answer: nothing is 204, a CloudEvent is sent as one (a Broker takes it
 * as the reply), a web Response brings its own status and headers, text and bytes go as they are, all else as JSON.
 * What it throws is a 500 with an id; the stack is in the log only, under that id.
 */
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { randomBytes } = require('node:crypto');
const { createRequire } = require('node:module');
const { pathToFileURL } = require('node:url');
const { inspect } = require('node:util');
const functions = require('@google-cloud/functions-framework');
const { getTestServer } = require('@google-cloud/functions-framework/testing');

const ROOT = path.join(path.dirname(__dirname), 'function');
const TARGET = 'knative-lambda-dispatch';
const HEALTH = ['/health/liveness', '/health/readiness'];
const REQUIRED = ['specversion', 'id', 'source', 'type'];
const SPECVERSIONS = ['1.0', '0.3'];
const OPTIONAL = ['datacontenttype', 'dataschema', 'subject', 'time'];
const DATA = ['data', 'data_base64'];
const NAME = /^[a-z0-9]+$/;
const TIME =
  /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3])(:[0-5]\d){2}(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const STRUCTURED = 'application/cloudevents+json';
const FORMATS = 'application/cloudevents';
const CONTEXT = /^(?:_?(?:context|ctx)\b|\{)/;
const ALLOWED = 'object, array, string, number, boolean, Buffer, CloudEvent, Response, nothing';
/** Milliseconds that answers get to leave when the process must end. */
const LAST_WORDS = 200;

/** A request that says it is a CloudEvent and is none; the text is for its sender. */
class NotAnEvent extends Error {}

/** A format of CloudEvents that nobody here reads; the text is for its sender. */
class NotTaken extends Error {}

/** What the handler returned cannot be sent; the text is for the log. */
class Unanswerable extends Error {}

const running = new Set();
let handler, answersItself, server;
let stopping = false;

/** The user's function: an export of that name, or one registered with the user's own functions-framework. */
async function load() {
  const entry = JSON.parse(fs.readFileSync(path.join(__dirname, 'runtime.json'), 'utf8'));
  process.chdir(ROOT);
  const file = entry.files.map((name) => path.join(ROOT, name)).find((name) => fs.existsSync(name));
  if (file === undefined) throw new Error(`none of ${entry.files.join(', ')} is there`);
  const exported = await import(pathToFileURL(file).href);
  const found = exported[entry.function] ?? exported.default?.[entry.function] ?? registered(file, entry.function);
  if (typeof found !== 'function') {
    const others = Object.keys({ ...exported.default, ...exported }).filter((name) => typeof exported[name] === 'function');
    throw new Error(`${path.basename(file)} exports no function ${entry.function}; it has: ${others.join(', ') || 'none'}`);
  }
  return found;
}

function registered(file, name) {
  let testing;
  try {
    testing = createRequire(file)('@google-cloud/functions-framework/testing');
  } catch {
    return undefined; // the function does not use it
  }
  return testing.getFunction(name);
}

/** Whether a handler is one of (request, response); a second parameter named context, or taken apart, says no. */
function takesResponse(given) {
  if (given.length < 2) return false;
  const text = Function.prototype.toString.call(given).replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '');
  return !CONTEXT.test(secondParameter(text.slice(text.indexOf('(') + 1)));
}

function secondParameter(text) {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    if (depth === 0 && text[at] === ',') return text.slice(at + 1).trim();
    if ('([{'.includes(text[at])) depth += 1;
    if (')]}'.includes(text[at])) depth -= 1;
  }
  return '';
}

/** The CloudEvent that the request carries, undefined when it carries none; the content type decides. */
function eventOf(request) {
  const contentType = mediaType(request);
  if (contentType === STRUCTURED) return structured(request.body);
  if (contentType.startsWith(FORMATS)) {
    throw new NotTaken(`${contentType} is not taken: send each event by itself, as ${STRUCTURED} or in headers`);
  }
  return carriesEvent(request) ? binary(request, contentType) : undefined;
}

function carriesEvent(request) {
  return REQUIRED.some((name) => request.header(`ce-${name}`) !== undefined);
}

function mediaType(request) {
  return (request.header('content-type') ?? '').split(';')[0].trim().toLowerCase();
}

function structured(body) {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new NotAnEvent('the body is not a JSON object');
  }
  check(body);
  return typeof body.data_base64 === 'string' ? { ...body, data: Buffer.from(body.data_base64, 'base64') } : body;
}

function binary(request, contentType) {
  const event = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (name.startsWith('ce-')) event[name.slice(3)] = decoded(value);
  }
  check(event);
  if (contentType !== '') event.datacontenttype = request.header('content-type');
  const empty = request.rawBody === undefined || request.rawBody.length === 0;
  return empty ? event : { ...event, data: dataOf(request.body, contentType) };
}

/** The framework parses application/json only. */
function dataOf(body, contentType) {
  if (!contentType.endsWith('+json') || !Buffer.isBuffer(body)) return body;
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new NotAnEvent(`the data is not JSON (${error.message})`);
  }
}

/** A % that encodes nothing is one: senders on sdk-go encode nothing at all. */
function decoded(value) {
  try {
    return decodeURIComponent(value.replace(/%(?![0-9A-Fa-f]{2})/g, '%25'));
  } catch {
    throw new NotAnEvent('a header is not percent-encoded UTF-8');
  }
}

/** The same in every language. */
function check(event) {
  const missing = REQUIRED.filter((name) => (event[name] ?? '') === '');
  if (missing.length > 0) throw new NotAnEvent(`${missing.join(', ')} missing`);
  const wrong = [...REQUIRED, ...OPTIONAL].filter((name) => typeof (event[name] ?? '') !== 'string');
  if (wrong.length > 0) throw new NotAnEvent(`${wrong.join(', ')} must be text`);
  if (!SPECVERSIONS.includes(event.specversion)) {
    throw new NotAnEvent(`specversion ${event.specversion} is not one of ${SPECVERSIONS.join(', ')}`);
  }
  if (!isMoment(event.time ?? '2026-01-31T12:00:00Z')) {
    throw new NotAnEvent('time is not of the form 2026-01-31T12:00:00Z');
  }
  const strange = Object.keys(event).find((name) => !DATA.includes(name) && !NAME.test(name));
  if (strange !== undefined) {
    throw new NotAnEvent(`${strange} is no name of an attribute: lower-case letters and digits only`);
  }
  const odd = Object.keys(event).find((name) => name !== 'data' && typeof (event[name] ?? '') === 'object');
  if (odd !== undefined) throw new NotAnEvent(`${odd} must be text, a number or a boolean`);
  if ('data_base64' in event) checkBytes(event);
}

/** The form alone does not know how many days a month has; Date goes on to the next one. */
function isMoment(text) {
  return TIME.test(text) && new Date(text.slice(0, 10)).getUTCDate() === Number(text.slice(8, 10));
}

function checkBytes(event) {
  if ('data' in event) throw new NotAnEvent('data and data_base64 exclude each other');
  if (typeof event.data_base64 !== 'string' || !BASE64.test(event.data_base64)) {
    throw new NotAnEvent('data_base64 is not base64');
  }
}

function isEvent(value) {
  return typeof value === 'object' && value !== null && REQUIRED.every((name) => typeof value[name] === 'string');
}

/** The web's Response, of Node.js or of a package: known by its shape, for naming the global one costs a cold start. */
function isResponse(value) {
  return typeof value?.arrayBuffer === 'function' && typeof value.status === 'number' && value.headers !== undefined;
}

async function send(response, result) {
  if (result === undefined || result === null) {
    response.status(204).end();
  } else if (isResponse(result)) {
    await sendResponse(response, result);
  } else if (isEvent(result)) {
    sendJson(response, STRUCTURED, json(asEvent(result)));
  } else if (typeof result === 'string') {
    response.send(result);
  } else if (result instanceof Uint8Array || result instanceof ArrayBuffer) {
    response.send(bytes(result));
  } else {
    sendJson(response, 'application/json', json(result));
  }
}

/** As bytes, and the type past express, which adds a charset that JSON does not have. */
function sendJson(response, type, text) {
  response.setHeader('content-type', type);
  response.send(Buffer.from(text));
}

async function sendResponse(response, result) {
  const body = Buffer.from(await result.arrayBuffer());
  response.status(result.status);
  for (const [name, value] of result.headers) {
    if (name !== 'set-cookie') response.setHeader(name, value);
  }
  for (const cookie of result.headers.getSetCookie?.() ?? []) response.append('set-cookie', cookie);
  if (result.headers.get('content-type') === null && body.length > 0) response.type('application/octet-stream');
  response.end(body);
}

function bytes(given) {
  return ArrayBuffer.isView(given) ? Buffer.from(given.buffer, given.byteOffset, given.byteLength) : Buffer.from(given);
}

/** As JSON has it: bytes in base64. */
function asEvent(given) {
  const { data, ...event } = typeof given.toJSON === 'function' ? given.toJSON() : given;
  const binaryData = given.data instanceof Uint8Array ? given.data : undefined;
  if (binaryData !== undefined) return { ...event, data_base64: bytes(binaryData).toString('base64') };
  return data === undefined ? event : { ...event, data };
}

function json(result) {
  let text, why;
  try {
    text = result instanceof Map || result instanceof Set ? undefined : JSON.stringify(result);
  } catch (error) {
    why = error.message.split('\n')[0];
  }
  if (text !== undefined) return text;
  const kind = typeof result === 'object' ? (result.constructor?.name ?? 'object') : typeof result;
  throw new Unanswerable(`the handler returned ${kind}: ${why ?? 'it cannot be sent'}; allowed: ${ALLOWED}`);
}

function contextOf(id, request, event) {
  return {
    id,
    traceparent: request.header('traceparent') ?? event?.traceparent ?? null,
    tracestate: request.header('tracestate') ?? event?.tracestate ?? null,
    function: process.env.K_SERVICE ?? '',
    revision: process.env.K_REVISION ?? '',
    request,
  };
}

/** Called by functions-framework for every request. */
async function dispatch(request, response) {
  if (request.method === 'GET' && HEALTH.includes(request.path)) {
    response.type('text/plain').send('ok');
    return;
  }
  const id = randomBytes(8).toString('hex');
  running.add(response);
  response.once('close', () => running.delete(response));
  if (stopping) response.set('connection', 'close');
  process.domain?.removeAllListeners('error').on('error', (error) => fail(response, id, error));
  try {
    await answer(request, response, id);
  } catch (error) {
    if (error instanceof NotAnEvent) refuse(response, 400, `not a CloudEvent: ${error.message}`);
    else if (error instanceof NotTaken) refuse(response, 415, error.message);
    else fail(response, id, error);
  }
}

async function answer(request, response, id) {
  if (answersItself) {
    await handler(request, response);
    return;
  }
  const event = eventOf(request);
  const result = await handler(event ?? request, contextOf(id, request, event));
  if (!response.headersSent) await send(response, result);
}

/** Without what Node.js and this file do: a status and a log have little room. */
function stack(error) {
  const others = (line) => !/^ +at /.test(line) || !(line.includes('node:internal') || line.includes(__filename));
  return inspect(error).split('\n').filter(others).join('\n');
}

function fail(response, id, error) {
  console.error(`error ${id}: ${error instanceof Unanswerable ? error.message : stack(error)}`);
  if (response.writableEnded) return;
  if (response.headersSent) {
    response.destroy(); // half an answer must not look like a whole one
    return;
  }
  for (const name of response.getHeaderNames()) response.removeHeader(name);
  plain(response.set('x-error-id', id), 500, `internal error ${id}`);
}

/** Logged, for a Broker takes it as delivered. */
function refuse(response, status, words) {
  console.error(`refused: ${words}`);
  plain(response, status, words);
}

function plain(response, status, words) {
  response.status(status).type('text/plain').send(`${words}\n`);
}

/** What the framework could not parse. Its parser takes no JSON but objects and arrays: the rest is parsed here. */
function unparsed(error, request, response, next) {
  if (response.headersSent) return next(error);
  if (error.type === 'entity.parse.failed') {
    try {
      request.body = JSON.parse(error.body);
    } catch {
      return refuse(response, 400, `${meant(request)} is not JSON (${error.message})`);
    }
    return dispatch(request, response);
  }
  if (error.status >= 400 && error.status < 500) return plain(response, error.status, error.message);
  return fail(response, randomBytes(8).toString('hex'), error);
}

/** What of the request should have been JSON. */
function meant(request) {
  if (mediaType(request) === STRUCTURED) return 'not a CloudEvent: the body';
  return carriesEvent(request) ? 'not a CloudEvent: the data' : 'the body';
}

/** What no request answers for. The state is unknown: who waits is told, and the process ends. */
function fatal(error) {
  const id = randomBytes(8).toString('hex');
  console.error(`error ${id}: nothing handles this, the process ends: ${stack(error)}`);
  process.exitCode = 1;
  stopping = true;
  server?.close();
  for (const response of running) {
    if (!response.headersSent) plain(response.set({ 'x-error-id': id, connection: 'close' }), 500, `internal error ${id}`);
  }
  setTimeout(() => process.exit(1), LAST_WORDS);
}

/** Running requests finish; how long they may is the platform's matter, which ends the process itself at last. */
function stop() {
  if (stopping) return;
  stopping = true;
  if (!server?.listening) process.exit(0);
  for (const response of running) {
    if (!response.headersSent) response.set('connection', 'close');
  }
  server.close(() => process.exit(0));
  setInterval(() => server.closeIdleConnections(), 100);
}

/** It listens only after the function is loaded: that is readiness. */
async function main() {
  process.on('SIGTERM', stop).on('SIGINT', stop);
  process.on('uncaughtException', fatal).on('unhandledRejection', fatal).on('exit', unfinished);
  try {
    handler = await load();
  } catch (error) {
    console.error(`the function cannot be loaded: ${stack(error)}`);
    process.exit(1);
  }
  answersItself = takesResponse(handler);
  functions.http(TARGET, dispatch);
  server = getTestServer(TARGET);
  server.listeners('request')[0].use(unparsed);
  server.listen(Number(process.env.PORT ?? 8080), ...(process.env.HOST ? [process.env.HOST] : []));
}

/** A module that waits for what never comes, or ends the process, must not look like one that is done. */
function unfinished(code) {
  if (server !== undefined || stopping || code !== 0) return;
  console.error('the function cannot be loaded: its module ended the process, or waits for what never comes');
  process.exitCode = 1;
}

void main();
