/**
 * Loaded before a function's server on this machine: a server that names no address listens on 127.0.0.1 alone.
 * functions-framework listens on every address and has no option for another.
 */
'use strict';

const net = require('node:net');

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (port, ...rest) {
  const isPort = typeof port === 'number' || (typeof port === 'string' && /^\d+$/.test(port));
  if (isPort && typeof rest[0] !== 'string') return listen.call(this, Number(port), '127.0.0.1', ...rest);
  return listen.call(this, port, ...rest);
};
